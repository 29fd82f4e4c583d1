/* The list of what src/objects adds to the module, one function a file; module.c calls them in order. */
#ifndef MPF_OBJECTS_TYPES_H
#define MPF_OBJECTS_TYPES_H

#include <Python.h>


#endif
