/* A ledger: how many messages each participant has taken and not yet finished. See ledger.c. */
#ifndef MPF_TRANSPORT_LEDGER_H
#define MPF_TRANSPORT_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/section.h"
#include "sync/table.h"

#define MPF_LEDGER_INLINE 6

struct mpf_ledger_shm {
    struct mpf_table_shm table;
    uint64_t lines[MPF_LEDGER_INLINE];
};

/* A ledger that was only zeroed is not used. */
void mpf_ledger_init(struct mpf_ledger_shm *ledger);
static inline bool mpf_ledger_used(const struct mpf_ledger_shm *ledger) { return ledger->table.capacity != 0; }

/* Inside `section`, the owner's: */

/* This process's line, which may be a new one; NULL: the ledger has to grow, and *seen is what it has now. */
uint64_t *mpf_ledger_line(struct mpf_arena *arena, struct mpf_ledger_shm *ledger, uint32_t *seen);
void mpf_ledger_add(struct mpf_arena *arena, struct mpf_section_shm *section, uint64_t *line, uint32_t messages);
/* One less for this process; where it has none, for another that has. */
void mpf_ledger_remove(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_ledger_shm *ledger);
/* What `who` has taken and not finished, and nothing from now on. */
uint32_t mpf_ledger_clear(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_ledger_shm *ledger, uint32_t who);

/* Outside of it: 0 or -ENOMEM. */
int mpf_ledger_grow(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_ledger_shm *ledger, uint32_t seen);
/* For the owner's destroy hook. */
void mpf_ledger_destroy(struct mpf_arena *arena, struct mpf_ledger_shm *ledger);

#endif
