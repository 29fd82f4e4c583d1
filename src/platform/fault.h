/* Named points at which a debug build can be made to fail (release builds contain none of this).
 *
 * MPFAST_FAULT=point:nth:action[,point:nth:action...]
 *   point   the name given to MPF_FAULT, '*' for any
 *   nth     fires on the nth time this process passes the point (1 = first; a forked child counts on)
 *   action  kill (SIGKILL to itself), stop (SIGSTOP), delay=MICROSECONDS, or an errno name (ENOMEM, ENOSPC ...)
 *
 * MPF_FAULT(name) acts and ignores errno actions; MPF_FAULT_ERROR(name) is 0 or the -errno to fail with. */
#ifndef MPF_PLATFORM_FAULT_H
#define MPF_PLATFORM_FAULT_H

#ifdef MPF_DEBUG
int mpf_fault_hit(const char *point);
/* Replaces the rules of the environment (NULL or "": none), and counts from 0. 0, -EINVAL where a rule is malformed. */
int mpf_fault_set(const char *rules);
#define MPF_FAULT(name) ((void)mpf_fault_hit(name))
#define MPF_FAULT_ERROR(name) mpf_fault_hit(name)
#else
#define MPF_FAULT(name) ((void)0)
#define MPF_FAULT_ERROR(name) 0
#endif

#endif
