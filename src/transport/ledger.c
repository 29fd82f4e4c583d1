/* Purpose: knows what a consumer that was killed had taken and not finished, so that nobody waits for it for ever.
 *
 * Layout: a table (sync/table.h) of lines: participant << 32 | messages. A line with no messages is free.
 *
 * Invariants: a participant has at most one line with messages. The sum of all lines is what was taken and not finished,
 * unless more was finished than had been taken by then.
 *
 * Callers: inside the owner's section, which has a log: a line changes together with what it is about, or not at all.
 *
 * Death of the caller: inside the section, the change is undone, or was complete. Growing: see sync/table.c. */
#include "transport/ledger.h"

#include <stddef.h>

#include "memory/arena.h"

static uint32_t messages_of(uint64_t line) { return (uint32_t)line; }
static uint32_t holder_of(uint64_t line) { return (uint32_t)(line >> 32); }

void mpf_ledger_init(struct mpf_ledger_shm *ledger) {
    mpf_table_init(&ledger->table, MPF_LEDGER_INLINE, sizeof(uint64_t));
}

/* The first line that holds messages of `who` (0: of anybody), else NULL. */
static uint64_t *find(struct mpf_arena *arena, struct mpf_ledger_shm *ledger, uint32_t who) {
    uint64_t *line;
    for (uint32_t i = 0; (line = mpf_table_at(arena, &ledger->table, i)) != NULL; i++)
        if (messages_of(*line) != 0 && (who == 0 || holder_of(*line) == who))
            return line;
    return NULL;
}

uint64_t *mpf_ledger_line(struct mpf_arena *arena, struct mpf_ledger_shm *ledger, uint32_t *seen) {
    uint64_t *line, *free = NULL;
    uint32_t i = 0;
    for (; (line = mpf_table_at(arena, &ledger->table, i)) != NULL; i++) {
        if (messages_of(*line) == 0)
            free = free == NULL ? line : free;
        else if (holder_of(*line) == arena->self)
            return line;
    }
    *seen = i;
    return free;
}

void mpf_ledger_add(struct mpf_arena *arena, struct mpf_section_shm *section, uint64_t *line, uint32_t messages) {
    mpf_section_set64(arena, section, line, (uint64_t)arena->self << 32 | (messages_of(*line) + messages));
}

void mpf_ledger_remove(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_ledger_shm *ledger) {
    uint64_t *line = find(arena, ledger, arena->self);
    if (line == NULL)
        line = find(arena, ledger, 0);
    if (line != NULL)
        mpf_section_set64(arena, section, line, *line - 1);
}

uint32_t mpf_ledger_clear(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_ledger_shm *ledger, uint32_t who) {
    uint64_t *line = find(arena, ledger, who);
    if (line == NULL)
        return 0;
    uint32_t messages = messages_of(*line);
    mpf_section_set64(arena, section, line, 0);
    return messages;
}

int mpf_ledger_grow(struct mpf_arena *arena, struct mpf_section_shm *section, struct mpf_ledger_shm *ledger, uint32_t seen) {
    return mpf_table_grow(arena, section, &ledger->table, seen);
}

void mpf_ledger_destroy(struct mpf_arena *arena, struct mpf_ledger_shm *ledger) {
    mpf_table_destroy(arena, &ledger->table);
}
