/* Ending together with the parent: a process that follows another one ends at once when that one has ended. */
#ifndef MPF_PLATFORM_FOLLOW_H
#define MPF_PLATFORM_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

/* Has this process follow process pid from now on; ends it at once where that one is gone already.
 * start_time: the other's, see process.h; 0: found out here. told: somebody sends this process MPF_FOLLOW_SIGNAL when the
 * other has ended; needed only where that is not the parent that the kernel knows. Repeating it changes nothing.
 * 0, -EINVAL (no such pid can be), -ENOSYS, -EAGAIN (no timer). */
int mpf_follow_start(int32_t pid, uint64_t start_time, bool told);

/* Follows nobody any more. */
void mpf_follow_stop(void);

/* Whom this process follows; 0: nobody. A forked child follows nobody. */
int32_t mpf_follow_whom(void);

/* Its number, for who sends it. Ignored by a process that follows nobody. */
int mpf_follow_signal(void);

#endif
