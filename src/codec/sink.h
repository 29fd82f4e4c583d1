/* Sink: the Python object that a pickler writes to: a file with write(), and the callable that is given its buffers. */
#ifndef MPF_CODEC_SINK_H
#define MPF_CODEC_SINK_H

#include "codec/encoder.h"

/* From this size on a protocol-5 buffer stays out of the pickle. */
#define MPF_SINK_BUFFER_MIN 4096

/* New reference to the type, or NULL with an exception set. */
PyObject *mpf_sink_new_type(void);
/* New reference to a sink of that type that writes nowhere yet. */
PyObject *mpf_sink_new(PyObject *type);
/* Where it writes from now on; NULL: nowhere, its methods raise ValueError. */
void mpf_sink_set(PyObject *sink, struct mpf_encoder *e);

#endif
