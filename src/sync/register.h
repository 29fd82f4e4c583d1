/* Tells the block allocator how to repair and destroy the blocks of this layer. */
#ifndef MPF_SYNC_REGISTER_H
#define MPF_SYNC_REGISTER_H

/* Once per process, before the first arena is mapped. */
void mpf_sync_register_hooks(void);

#endif
