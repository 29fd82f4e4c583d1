/* Memory barriers that one machine needs and another has already. */
#ifndef MPF_PLATFORM_FENCE_H
#define MPF_PLATFORM_FENCE_H

#include <stdatomic.h>

/* Orders what came before an atomic read-modify-write, made since by this thread on any word, before what follows here. Where
 * such an operation is a full barrier by itself only the compiler has to be told. */
static inline void mpf_fence_after_exchange(void)
{
#if (defined(__x86_64__) || defined(__i386__)) && !defined(__SANITIZE_THREAD__)
    atomic_signal_fence(memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

#endif
