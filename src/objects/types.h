/* The list of what src/objects adds to the module, one function a file; module.c calls them in order. */
#ifndef MPF_OBJECTS_TYPES_H
#define MPF_OBJECTS_TYPES_H

#include <Python.h>

int mpf_state_register(PyObject *module);
int mpf_special_register(PyObject *module);
int mpf_handle_register(PyObject *module);
int mpf_lock_register(PyObject *module);
int mpf_semaphore_register(PyObject *module);
int mpf_condition_register(PyObject *module);
int mpf_event_register(PyObject *module);
int mpf_until_register(PyObject *module);
int mpf_barrier_register(PyObject *module);
int mpf_message_register(PyObject *module);
int mpf_queue_register(PyObject *module);
int mpf_managed_queue_register(PyObject *module);
int mpf_connection_register(PyObject *module);
int mpf_select_register(PyObject *module);
int mpf_storage_register(PyObject *module);
int mpf_synchronized_register(PyObject *module);
int mpf_value_register(PyObject *module);
int mpf_array_register(PyObject *module);
int mpf_array_iterator_register(PyObject *module);
int mpf_string_register(PyObject *module);
int mpf_mapping_register(PyObject *module);
int mpf_shared_memory_register(PyObject *module);
int mpf_names_register(PyObject *module);
int mpf_shareable_list_register(PyObject *module);
int mpf_dict_register(PyObject *module);
int mpf_receiver_register(PyObject *module);
int mpf_stream_register(PyObject *module);
int mpf_crew_register(PyObject *module);
int mpf_crew_submit_register(PyObject *module);
int mpf_crew_work_register(PyObject *module);
int mpf_watch_register(PyObject *module);
int mpf_definitions_register(PyObject *module);
int mpf_list_register(PyObject *module);
int mpf_inspect_register(PyObject *module);
int mpf_process_register(PyObject *module);
int mpf_zygote_register(PyObject *module);
int mpf_bootstrap_register(PyObject *module);
int mpf_prefetch_register(PyObject *module);
int mpf_codec_register(PyObject *module);

#endif
