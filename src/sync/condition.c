/* Condition: a queue of waiters, each with a node of its own.
 *
 *   +------+------+------+------+---------+--------------------------------------+----------------------+
 *   | head | tail | free | used | waiting | table of nodes                       | section and undo log |
 *   +------+------+------+------+---------+--------------------------------------+----------------------+
 *                                          node {state, asleep, owner, next}
 *   head, tail, free, next: a node's index + 1, 0 none. Tickets are an index.
 *
 * States of a node
 *   FREE      on the list `free`, or never used (index >= used)
 *   WAITING   on the list head..tail, in order of arrival
 *   NOTIFIED  on no list; its waiter frees it
 * Transitions, each inside the section, so that it is there as a whole or not at all
 *   FREE -> WAITING      enlist
 *   WAITING -> NOTIFIED  notify; then, outside, the waiter is woken if `asleep` says so
 *   WAITING -> FREE      await at its deadline or interrupted, withdraw, recover
 *   NOTIFIED -> FREE     await; recover and an interrupted await also notify the next waiter, in the same step
 *
 * A waiter looks at its node's state without the section, but what it saw counts only when it sees it inside: a
 * notifier may be killed before its change was complete.
 *
 * Sleeping: the waiter sets `asleep`, then the kernel compares the state; the notifier sets the state, then looks at
 * `asleep`. With a full barrier between the two steps on both sides (the kernel's before its comparison, the fence in
 * wake_node) at least one of them sees the other. The data that the notification is about is ordered by the user's lock.
 *
 * If the caller is killed
 *   inside the section                   the next one to enter undoes what it had begun
 *   enlisted, waiting                    recover frees the node
 *   notified, still in await             recover frees the node and notifies the next waiter
 *   in notify, after the section         the waiters it notified recheck
 *   in notify(n), between two portions   what was notified is notified
 *   in recover                           recover runs again in the next reaper, for the nodes that are left */
#include "sync/condition.h"

#include <errno.h>
#include <stddef.h>

#include "memory/section.h"
#include "platform/fault.h"
#include "sync/spin.h"
#include "sync/table.h"

#define INLINE_NODES 6
#define LOG 12
#define PORTION 8 /* nodes notified in one section: one log entry each, and three more */

enum node_state { FREE, WAITING, NOTIFIED };

struct node {
    _Atomic uint32_t state;
    _Atomic uint32_t asleep;
    uint32_t owner;
    uint32_t next;
};

struct mpf_condition_shm {
    uint32_t head, tail;
    uint32_t free;
    uint32_t used;
    _Atomic uint32_t waiting;
    uint32_t reserved;
    struct mpf_table_shm table;
    struct node nodes[INLINE_NODES];
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[LOG];
};
_Static_assert(offsetof(struct mpf_condition_shm, nodes) ==
                   offsetof(struct mpf_condition_shm, table) + sizeof(struct mpf_table_shm), "entries follow the header");
_Static_assert(offsetof(struct mpf_condition_shm, log) ==
                   offsetof(struct mpf_condition_shm, section) + sizeof(struct mpf_section_shm), "the log follows the section");

uint64_t mpf_condition_bytes(void) { return sizeof(struct mpf_condition_shm); }

void mpf_condition_init(struct mpf_condition_shm *condition) {
    condition->head = condition->tail = condition->free = condition->used = 0;
    atomic_store_explicit(&condition->waiting, 0, memory_order_relaxed);
    mpf_table_init(&condition->table, INLINE_NODES, sizeof(struct node));
    mpf_section_init(&condition->section, LOG);
}

static void set(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t *where, uint32_t value) {
    MPF_FAULT("condition.set");
    mpf_section_set32(arena, &condition->section, where, value);
}

static uint32_t waiting_now(const struct mpf_condition_shm *condition) {
    return atomic_load_explicit(&condition->waiting, memory_order_relaxed);
}

static void set_waiting(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t value) {
    set(arena, condition, (uint32_t *)&condition->waiting, value);
}

static void set_state(struct mpf_arena *arena, struct mpf_condition_shm *condition, struct node *node,
                      enum node_state state) {
    set(arena, condition, (uint32_t *)&node->state, state);
}

static enum node_state state_of(const struct node *node) {
    return (enum node_state)atomic_load_explicit(&node->state, memory_order_relaxed);
}

/* link: index + 1 */
static struct node *node_at(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link) {
    return link ? mpf_table_at(arena, &condition->table, link - 1) : NULL;
}

/* Inside the section: an unused node, 0 when the table is full. */
static uint32_t take_free(struct mpf_arena *arena, struct mpf_condition_shm *condition) {
    uint32_t link = condition->free;
    if (link) {
        set(arena, condition, &condition->free, node_at(arena, condition, link)->next);
    } else if (mpf_table_at(arena, &condition->table, condition->used)) {
        link = condition->used + 1;
        set(arena, condition, &condition->used, link);
    }
    return link;
}

static void put_free(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link) {
    struct node *node = node_at(arena, condition, link);
    set_state(arena, condition, node, FREE);
    set(arena, condition, &node->next, condition->free);
    set(arena, condition, &condition->free, link);
}

static void append(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link) {
    struct node *node = node_at(arena, condition, link);
    set_state(arena, condition, node, WAITING);
    set(arena, condition, &node->owner, arena->self);
    set(arena, condition, &node->next, 0);
    if (condition->tail)
        set(arena, condition, &node_at(arena, condition, condition->tail)->next, link);
    else
        set(arena, condition, &condition->head, link);
    set(arena, condition, &condition->tail, link);
    set_waiting(arena, condition, waiting_now(condition) + 1);
    atomic_store_explicit(&node->asleep, 0, memory_order_relaxed);
}

static void unlink_node(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link) {
    uint32_t before = 0;
    for (uint32_t at = condition->head; at != link; at = node_at(arena, condition, at)->next)
        before = at;
    uint32_t after = node_at(arena, condition, link)->next;
    if (before)
        set(arena, condition, &node_at(arena, condition, before)->next, after);
    else
        set(arena, condition, &condition->head, after);
    if (condition->tail == link)
        set(arena, condition, &condition->tail, before);
    set_waiting(arena, condition, waiting_now(condition) - 1);
}

/* Inside the section: the first waiters, up to limit (at most PORTION), become NOTIFIED. How many. */
static uint32_t notify_inside(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t limit,
                              struct node **notified) {
    uint32_t count = 0;
    uint32_t link = condition->head;
    for (; link && count < limit; count++) {
        notified[count] = node_at(arena, condition, link);
        set_state(arena, condition, notified[count], NOTIFIED);
        link = notified[count]->next;
    }
    if (count) {
        set(arena, condition, &condition->head, link);
        if (!link)
            set(arena, condition, &condition->tail, 0);
        set_waiting(arena, condition, waiting_now(condition) - count);
    }
    return count;
}

static void wake_nodes(struct node **nodes, uint32_t count) {
    if (!count)
        return;
    MPF_FAULT("condition.notified");
    atomic_thread_fence(memory_order_seq_cst); /* the states before the look at asleep; see the head of the file */
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&nodes[i]->asleep, memory_order_relaxed))
            mpf_park_wake(&nodes[i]->state, 1);
}

int mpf_condition_enlist(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t *ticket) {
    for (;;) {
        mpf_section_enter(arena, &condition->section);
        uint32_t link = take_free(arena, condition);
        uint32_t seen = condition->used;
        if (link)
            append(arena, condition, link);
        mpf_section_leave(arena, &condition->section);
        MPF_FAULT("condition.enlisted");
        *ticket = link - 1;
        if (link)
            return 0;
        int rc = mpf_table_grow(arena, &condition->section, &condition->table, seen);
        if (rc < 0)
            return rc;
    }
}

/* Inside the section: frees a node that is not FREE. If it had been notified and pass_on, the first waiter is instead:
 * *next, to be woken outside. Whether it had been notified. */
static bool leave_inside(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link, bool pass_on,
                         struct node **next) {
    bool was_notified = state_of(node_at(arena, condition, link)) == NOTIFIED;
    *next = NULL;
    if (!was_notified)
        unlink_node(arena, condition, link);
    else if (pass_on)
        notify_inside(arena, condition, 1, next);
    put_free(arena, condition, link);
    return was_notified;
}

static bool leave_queue(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link, bool pass_on) {
    struct node *next;
    mpf_section_enter(arena, &condition->section);
    bool was_notified = leave_inside(arena, condition, link, pass_on, &next);
    mpf_section_leave(arena, &condition->section);
    wake_nodes(&next, next != NULL);
    return was_notified;
}

/* Frees the caller's node if it has been notified. */
static bool leave_if_notified(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t link) {
    mpf_section_enter(arena, &condition->section);
    bool notified = state_of(node_at(arena, condition, link)) == NOTIFIED;
    if (notified)
        put_free(arena, condition, link);
    mpf_section_leave(arena, &condition->section);
    MPF_FAULT("condition.left");
    return notified;
}

static bool await_spinning(struct mpf_park *park, struct mpf_condition_shm *condition, uint32_t link, struct node *node) {
    struct mpf_spin spin;
    bool won = false;
    for (mpf_spin_begin(&spin, park, condition); mpf_spin_next(&spin);) {
        won = state_of(node) == NOTIFIED && leave_if_notified(park->arena, condition, link);
        if (won)
            break;
    }
    mpf_spin_end(&spin, won);
    return won;
}

static int await_sleeping(struct mpf_park *park, struct mpf_condition_shm *condition, uint32_t link, struct node *node) {
    /* Sequentially consistent: before the kernel's comparison; pairs with the fence in wake_nodes. */
    atomic_store_explicit(&node->asleep, 1, memory_order_seq_cst);
    for (;;) {
        if (state_of(node) == NOTIFIED && leave_if_notified(park->arena, condition, link))
            return 0;
        int slept = mpf_park(park, &node->state, WAITING);
        if (slept == 0)
            continue;
        bool notified = leave_queue(park->arena, condition, link, slept == -EINTR);
        return notified && slept != -EINTR ? 0 : slept;
    }
}

int mpf_condition_await(struct mpf_park *park, struct mpf_condition_shm *condition, uint32_t ticket) {
    uint32_t link = ticket + 1;
    struct node *node = node_at(park->arena, condition, link);
    int rc = 0;
    if (!await_spinning(park, condition, link, node))
        rc = await_sleeping(park, condition, link, node);
    mpf_park_finish(park);
    return rc;
}

void mpf_condition_withdraw(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t ticket) {
    leave_queue(arena, condition, ticket + 1, true);
}

uint32_t mpf_condition_notify(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t count) {
    uint32_t done = 0;
    for (;;) {
        struct node *notified[PORTION];
        uint32_t limit = count - done < PORTION ? count - done : PORTION;
        mpf_section_enter(arena, &condition->section);
        uint32_t portion = notify_inside(arena, condition, limit, notified);
        mpf_section_leave(arena, &condition->section);
        wake_nodes(notified, portion);
        done += portion;
        if (portion < PORTION || done == count)
            return done;
    }
}

uint32_t mpf_condition_waiters(const struct mpf_condition_shm *condition) { return waiting_now(condition); }

/* Inside the section: a node that belongs to `dead`, 0 when there is none. */
static uint32_t find_owned(struct mpf_arena *arena, struct mpf_condition_shm *condition, uint32_t dead) {
    for (uint32_t link = 1; link <= condition->used; link++) {
        const struct node *node = node_at(arena, condition, link);
        if (state_of(node) != FREE && node->owner == dead)
            return link;
    }
    return 0;
}

void mpf_condition_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_condition_shm *condition = mpf_at(arena, off);
    for (;;) {
        struct node *next = NULL;
        mpf_section_enter(arena, &condition->section);
        uint32_t link = find_owned(arena, condition, dead);
        if (link)
            leave_inside(arena, condition, link, true, &next);
        mpf_section_leave(arena, &condition->section);
        MPF_FAULT("condition.recovered");
        wake_nodes(&next, next != NULL);
        if (!link)
            return;
    }
}

void mpf_condition_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_condition_shm *condition = mpf_at(arena, off);
    mpf_table_destroy(arena, &condition->table);
}
