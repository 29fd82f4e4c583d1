/* The parts of SynchronizedArray that have files of their own: slices and the iterator. */
#ifndef MPF_OBJECTS_ARRAY_H
#define MPF_OBJECTS_ARRAY_H

#include "objects/synchronized.h"

/* array[key] and array[key] = value on the ctypes array, under the lock. */
PyObject *mpf_array_get_through_obj(struct mpf_synchronized *self, PyObject *key);
int mpf_array_set_through_obj(struct mpf_synchronized *self, PyObject *key, PyObject *value);

/* The same for a slice and elements that are not ctypes' business (self->item is set). */
PyObject *mpf_array_get_slice(struct mpf_synchronized *self, PyObject *slice);
int mpf_array_set_slice(struct mpf_synchronized *self, PyObject *slice, PyObject *value);

/* New reference to an iterator that takes the lock for each element. */
PyObject *mpf_array_iterator_new(struct mpf_synchronized *array);

#endif
