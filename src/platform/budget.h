/* How much memory there is to be had. See budget.c. */
#ifndef MPF_PLATFORM_BUDGET_H
#define MPF_PLATFORM_BUDGET_H

#include <stdint.h>

/* Bytes that can be written to fresh pages without the system, or a control group of this process, killing somebody for them;
 * UINT64_MAX where nothing is known. A snapshot. root: what to put before /proc and /sys, "" for the real ones. */
uint64_t mpf_budget_available(const char *root);

#endif
