/* What a worker's loop (crew_work.c) and its sending of results (crew_report.c) share. */
#ifndef MPF_OBJECTS_CREW_WORK_H
#define MPF_OBJECTS_CREW_WORK_H

#include "engine/worker.h"
#include "objects/crew.h"

#define MPF_WORK_JOBS 4 /* functions that are kept */

struct mpf_work_job {
    mpf_off off; /* 0: unused */
    uint32_t generation;
    PyObject *func; /* owned */
};

struct mpf_work {
    struct mpf_state *state;
    struct mpf_worker worker;
    PyObject *wrap, *unencodable, *undecodable; /* borrowed, or NULL */
    struct mpf_work_job jobs[MPF_WORK_JOBS];            /* latest first */
    long long max_tasks, max_memory;            /* 0: no limit */
    long long done;
    int statm; /* descriptor, or -1 */
    long page;
};

/* What came of a task: exactly one of the two, owned. */
struct mpf_work_outcome {
    PyObject *value;
    PyObject *error;
    bool piece; /* the value is a list that nothing else refers to */
    bool final; /* the error is sent as it is */
};

/* Sends what came of the task in hand, and lets go of it. */
void mpf_work_report(struct mpf_work *work, struct mpf_work_outcome *outcome);

#endif
