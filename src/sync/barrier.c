/* Barrier: parties gather, and one store lets them all go.
 *
 *   +---------+------+----------+-----------------------------+------------------+----------------------+
 *   | parties | word | sleepers | tag | fill | count | state | table of members | section and undo log |
 *   +---------+------+----------+-----------------------------+------------------+----------------------+
 *                                                              member {id, inside, fill}
 *
 * word is what waiters sleep on. It grows with every event; bit 0 is set while the barrier is broken or resetting. fill, count
 * and state describe the present gathering and hold while tag == word; otherwise nobody is inside and the state is FILLING.
 *
 * States                    to
 *   FILLING    arrivals gather; the last one opens, or becomes the leader     open (FILLING), ACTING, RESETTING, BROKEN
 *   ACTING     the leader runs the action; arrivals wait for word to change   open (FILLING), BROKEN
 *   RESETTING  those inside leave with an error; arrivals wait                FILLING (by the last to leave), BROKEN
 *   BROKEN     those inside leave with an error, arrivals fail                RESETTING or FILLING (reset)
 *
 * Open is a single store, word + 2: with it tag, count and state are void, and everybody who is inside knows. All other
 * changes are made in the section through its log. So a waiter that finds word changed and even was let go, for as long as
 * somebody is inside a broken gathering word stays odd. Where it is odd, the waiter compares `fill`, which names
 * the gathering it came in, inside the section.
 *
 * Invariants (outside the section, while tag == word)
 *   - count = the sum of `inside` of the members whose fill is the barrier's
 *   - every process that is inside, or has ever waited, is a member until it has ended
 *   - sleepers is the newest value of word that somebody may sleep on: who changes word from that value wakes all.
 *     The waiter writes sleepers before the kernel compares word; the one who changes word looks at sleepers after it,
 *     with a full barrier between the two steps on both sides: one of them sees the other
 *
 * If the caller is killed
 *   inside the section                  the next one to enter undoes what it had begun; an open that was stored stands
 *   a member, at any time               recover takes it out and breaks the barrier
 *   after a change of word, no wake     the sleepers recheck
 *   in recover                          recover runs again in the next reaper; the member is still there or all is done */
#include "sync/barrier.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "memory/participant.h"
#include "memory/section.h"
#include "platform/fault.h"
#include "sync/spin.h"
#include "sync/table.h"

#define INLINE_MEMBERS 4
#define LOG 12

enum barrier_state { FILLING, ACTING, RESETTING, BROKEN };

struct member {
    uint32_t id;     /* participant, 0: entry unused */
    uint32_t inside; /* threads of it in the gathering `fill` */
    uint32_t fill;
    uint32_t reserved;
};

struct mpf_barrier_shm {
    uint32_t parties;
    _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
    uint32_t tag;
    uint32_t fill;
    uint32_t count;
    uint32_t state;
    uint32_t reserved;
    struct mpf_table_shm table;
    struct member members[INLINE_MEMBERS];
    struct mpf_section_shm section;
    struct mpf_section_entry_shm log[LOG];
};
_Static_assert(offsetof(struct mpf_barrier_shm, members) ==
                   offsetof(struct mpf_barrier_shm, table) + sizeof(struct mpf_table_shm), "entries follow the header");
_Static_assert(offsetof(struct mpf_barrier_shm, log) ==
                   offsetof(struct mpf_barrier_shm, section) + sizeof(struct mpf_section_shm), "the log follows the section");

uint64_t mpf_barrier_bytes(void) { return sizeof(struct mpf_barrier_shm); }

void mpf_barrier_init(struct mpf_barrier_shm *barrier, uint32_t parties) {
    *barrier = (struct mpf_barrier_shm){.parties = parties, .tag = 1}; /* tag != word: nobody is inside */
    mpf_table_init(&barrier->table, INLINE_MEMBERS, sizeof(struct member));
    mpf_section_init(&barrier->section, LOG);
}

static void set(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, uint32_t *where, uint32_t value) {
    MPF_FAULT("barrier.set");
    mpf_section_set32(arena, &barrier->section, where, value);
}

static uint32_t peek(const uint32_t *where) { return __atomic_load_n(where, __ATOMIC_RELAXED); }

static uint32_t word_now(const struct mpf_barrier_shm *barrier) {
    /* Acquire: pairs with the release of open_inside, and orders what the parties did before they arrived. */
    return atomic_load_explicit(&barrier->word, memory_order_acquire);
}

static bool is_gathering(const struct mpf_barrier_shm *barrier) { return peek(&barrier->tag) == word_now(barrier); }

static enum barrier_state state_now(const struct mpf_barrier_shm *barrier) {
    return is_gathering(barrier) ? (enum barrier_state)peek(&barrier->state) : FILLING;
}

static uint32_t count_now(const struct mpf_barrier_shm *barrier) {
    return is_gathering(barrier) ? peek(&barrier->count) : 0;
}

/* Outside the section, after word was changed from `old`. */
static void wake_sleepers(struct mpf_barrier_shm *barrier, uint32_t old) {
    MPF_FAULT("barrier.changed");
    atomic_thread_fence(memory_order_seq_cst); /* word before the look at sleepers; pairs with the CAS in announce */
    if (atomic_load_explicit(&barrier->sleepers, memory_order_relaxed) == old)
        mpf_park_wake(&barrier->word, INT_MAX);
}

/* Sleepers only grows (word may wrap), so that a latecomer does not hide those who sleep on a newer value. */
static void announce(struct mpf_barrier_shm *barrier, uint32_t word) {
    uint32_t old = atomic_load_explicit(&barrier->sleepers, memory_order_relaxed);
    while (old != word && (int32_t)(word - old) > 0 &&
           !atomic_compare_exchange_weak_explicit(&barrier->sleepers, &old, word, memory_order_seq_cst,
                                                  memory_order_relaxed))
        ;
    MPF_FAULT("barrier.announced");
}

/* Everything below up to the next such line is called inside the section. */

static void move_word(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, uint32_t word) {
    set(arena, barrier, (uint32_t *)&barrier->word, word);
}

/* Starts a gathering if there is none, so that count and state hold. */
static void begin_gathering(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    if (is_gathering(barrier))
        return;
    uint32_t word = word_now(barrier);
    set(arena, barrier, &barrier->fill, word);
    set(arena, barrier, &barrier->count, 0);
    set(arena, barrier, &barrier->state, FILLING);
    set(arena, barrier, &barrier->tag, word);
}

static void turn_bad(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, enum barrier_state state) {
    begin_gathering(arena, barrier);
    uint32_t word = (word_now(barrier) + 2) | 1;
    set(arena, barrier, &barrier->state, state);
    move_word(arena, barrier, word);
    set(arena, barrier, &barrier->tag, word);
}

/* From broken or resetting with nobody inside: word becomes even, tag differs from it. */
static void turn_good(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    move_word(arena, barrier, (word_now(barrier) | 1) + 1);
}

static void open_inside(struct mpf_barrier_shm *barrier) {
    /* Not through the log: this store is the change. Release: pairs with the acquire in word_now. */
    atomic_store_explicit(&barrier->word, word_now(barrier) + 2, memory_order_release);
    MPF_FAULT("barrier.open");
}

static struct member *find_member(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, uint32_t id) {
    struct member *member;
    for (uint32_t i = 0; (member = mpf_table_at(arena, &barrier->table, i)) != NULL; i++)
        if (member->id == id)
            return member;
    return NULL;
}

/* An entry that nobody uses: free, or of a process that ended in order while it was not inside. */
static struct member *find_unused(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    struct member *member = find_member(arena, barrier, 0);
    for (uint32_t i = 0; !member && (member = mpf_table_at(arena, &barrier->table, i)) != NULL; i++) {
        bool is_inside = is_gathering(barrier) && member->fill == barrier->fill && member->inside;
        if (!is_inside && mpf_participant_state(arena, member->id) == MPF_PARTICIPANT_LEFT)
            return member;
        member = NULL;
    }
    return member;
}

static void count_in(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, struct member *member) {
    uint32_t inside = member->fill == barrier->fill ? member->inside : 0;
    set(arena, barrier, &member->fill, barrier->fill);
    set(arena, barrier, &member->inside, inside + 1);
    set(arena, barrier, &barrier->count, barrier->count + 1);
}

/* The caller was counted in, and the gathering still is the one it came in. */
static void count_out(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    struct member *member = find_member(arena, barrier, arena->self);
    set(arena, barrier, &member->inside, member->inside - 1);
    set(arena, barrier, &barrier->count, barrier->count - 1);
    if (!barrier->count && barrier->state == RESETTING)
        turn_good(arena, barrier);
}

/* End of what is called inside the section. */

static uint32_t enter(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    mpf_section_enter(arena, &barrier->section);
    return word_now(barrier);
}

/* Leaves the section, and wakes all if word has changed since `old`. */
static void leave(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, uint32_t old) {
    bool changed = word_now(barrier) != old;
    mpf_section_leave(arena, &barrier->section);
    if (changed)
        wake_sleepers(barrier, old);
}

/* Makes the caller's process a member, in a section of its own: an open that is stored later must not be followed by an
 * undo of the membership. 0, -ENOMEM. */
static int become_member(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    for (;;) {
        uint32_t word = enter(arena, barrier);
        struct member *member = find_member(arena, barrier, arena->self);
        uint32_t seen = 0;
        if (!member) {
            member = find_unused(arena, barrier);
            if (member) {
                set(arena, barrier, &member->inside, 0);
                set(arena, barrier, &member->id, arena->self);
            } else {
                seen = mpf_table_capacity(arena, &barrier->table);
            }
        }
        leave(arena, barrier, word);
        MPF_FAULT("barrier.member");
        if (member)
            return 0;
        int rc = mpf_table_grow(arena, &barrier->section, &barrier->table, seen);
        if (rc < 0)
            return rc;
    }
}

/* What became of an arrival. */
struct arrival {
    uint32_t index;
    uint32_t word; /* to wait on */
    uint32_t fill; /* the gathering */
};

enum arrived { LET_GO, LEADER, WAITS, NOT_YET, FAILED, NO_MEMBER };

static enum arrived arrive_inside(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, bool has_action,
                                  struct arrival *arrival) {
    enum barrier_state state = state_now(barrier);
    if (state == BROKEN)
        return FAILED;
    if (state != FILLING)
        return NOT_YET;
    struct member *member = find_member(arena, barrier, arena->self);
    if (!member)
        return NO_MEMBER;
    arrival->index = count_now(barrier);
    bool last = arrival->index + 1 == barrier->parties;
    if (last && !has_action) {
        open_inside(barrier);
        return LET_GO;
    }
    begin_gathering(arena, barrier);
    count_in(arena, barrier, member);
    arrival->fill = barrier->fill;
    if (!last)
        return WAITS;
    set(arena, barrier, &barrier->state, ACTING);
    return LEADER;
}

static enum arrived arrive(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, bool has_action,
                           struct arrival *arrival) {
    arrival->word = enter(arena, barrier);
    enum arrived arrived = arrive_inside(arena, barrier, has_action, arrival);
    leave(arena, barrier, arrival->word);
    MPF_FAULT("barrier.arrived");
    return arrived;
}

static bool spin_until_changed(struct mpf_park *park, struct mpf_barrier_shm *barrier, uint32_t word) {
    struct mpf_spin spin;
    bool changed = false;
    for (mpf_spin_begin(&spin, park, barrier); mpf_spin_next(&spin);) {
        changed = word_now(barrier) != word;
        if (changed)
            break;
    }
    mpf_spin_end(&spin, changed);
    return changed;
}

/* Arrives, after waiting out a reset or another's action. That wait has no deadline, as in the stdlib. */
static int arrive_when_filling(struct mpf_park *park, struct mpf_barrier_shm *barrier, bool has_action,
                               struct arrival *arrival, enum arrived *arrived) {
    int64_t deadline = park->deadline;
    int rc = 0;
    while (rc == 0) {
        *arrived = arrive(park->arena, barrier, has_action, arrival);
        if (*arrived == NO_MEMBER) {
            rc = become_member(park->arena, barrier);
            continue;
        }
        if (*arrived != NOT_YET)
            break;
        park->deadline = MPF_FOREVER;
        if (spin_until_changed(park, barrier, arrival->word))
            continue;
        announce(barrier, arrival->word);
        rc = mpf_park(park, &barrier->word, arrival->word);
    }
    park->deadline = deadline;
    return rc;
}

/* How a wait stands, and leaving it. 1: let go; 0: goes on; -EPIPE, -EINTR: has left. why: what mpf_park returned. */
static int settle(struct mpf_park *park, struct mpf_barrier_shm *barrier, const struct arrival *arrival, int why) {
    struct mpf_arena *arena = park->arena;
    uint32_t old = enter(arena, barrier);
    bool is_inside = is_gathering(barrier) && barrier->fill == arrival->fill;
    enum barrier_state state = state_now(barrier);
    int rc = is_inside ? 0 : 1;
    if (is_inside && (state == BROKEN || state == RESETTING)) {
        rc = -EPIPE;
    } else if (is_inside && why == -ETIMEDOUT) {
        if (state == ACTING)
            park->deadline = MPF_FOREVER;
        else
            rc = -EPIPE;
        if (rc)
            turn_bad(arena, barrier, BROKEN);
    }
    if (why == -EINTR)
        rc = why;
    if (is_inside && rc)
        count_out(arena, barrier);
    leave(arena, barrier, old);
    return rc;
}

static int wait_let_go(struct mpf_park *park, struct mpf_barrier_shm *barrier, struct arrival *arrival) {
    spin_until_changed(park, barrier, arrival->word);
    for (int why = 0;;) {
        uint32_t word = word_now(barrier);
        if (word != arrival->word && !(word & 1) && why != -EINTR)
            return 1;
        if (word != arrival->word || why) {
            int rc = settle(park, barrier, arrival, why);
            if (rc)
                return rc;
        }
        announce(barrier, arrival->word);
        why = mpf_park(park, &barrier->word, arrival->word);
    }
}

int mpf_barrier_wait(struct mpf_park *park, struct mpf_barrier_shm *barrier, bool has_action, bool *leader) {
    struct arrival arrival = {0};
    enum arrived arrived;
    *leader = false;
    int rc = arrive_when_filling(park, barrier, has_action, &arrival, &arrived);
    if (rc == 0 && arrived == WAITS)
        rc = wait_let_go(park, barrier, &arrival);
    else if (rc == 0 && arrived == FAILED)
        rc = -EPIPE;
    else if (rc == 0 && arrived == LEADER)
        *leader = true;
    mpf_park_finish(park);
    return rc < 0 ? rc : (int)arrival.index;
}

/* The leader's way out: word is still the one it acted at, or the barrier was broken meanwhile. */
static void finish_action(struct mpf_arena *arena, struct mpf_barrier_shm *barrier, bool good) {
    uint32_t old = enter(arena, barrier);
    if (state_now(barrier) == ACTING && good) {
        open_inside(barrier);
    } else {
        if (!good)
            turn_bad(arena, barrier, BROKEN);
        count_out(arena, barrier);
    }
    leave(arena, barrier, old);
}

void mpf_barrier_open(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) { finish_action(arena, barrier, true); }

void mpf_barrier_fail(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) { finish_action(arena, barrier, false); }

void mpf_barrier_reset(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    uint32_t old = enter(arena, barrier);
    enum barrier_state state = state_now(barrier);
    bool is_inside = count_now(barrier) > 0;
    if (is_inside && (state == FILLING || state == BROKEN))
        turn_bad(arena, barrier, RESETTING);
    else if (!is_inside && state == BROKEN)
        turn_good(arena, barrier);
    leave(arena, barrier, old);
}

void mpf_barrier_abort(struct mpf_arena *arena, struct mpf_barrier_shm *barrier) {
    uint32_t old = enter(arena, barrier);
    turn_bad(arena, barrier, BROKEN);
    leave(arena, barrier, old);
}

uint32_t mpf_barrier_parties(const struct mpf_barrier_shm *barrier) { return barrier->parties; }

uint32_t mpf_barrier_waiting(const struct mpf_barrier_shm *barrier) {
    enum barrier_state state = state_now(barrier);
    return state == FILLING || state == ACTING ? count_now(barrier) : 0;
}

bool mpf_barrier_broken(const struct mpf_barrier_shm *barrier) { return state_now(barrier) == BROKEN; }

void mpf_barrier_recover(struct mpf_arena *arena, mpf_off off, uint32_t dead) {
    struct mpf_barrier_shm *barrier = mpf_at(arena, off);
    uint32_t old = enter(arena, barrier);
    struct member *member = find_member(arena, barrier, dead);
    if (member) {
        if (is_gathering(barrier) && member->fill == barrier->fill)
            set(arena, barrier, &barrier->count, barrier->count - member->inside);
        set(arena, barrier, &member->id, 0);
        turn_bad(arena, barrier, BROKEN);
    }
    leave(arena, barrier, old);
}

void mpf_barrier_destroy(struct mpf_arena *arena, mpf_off off) {
    struct mpf_barrier_shm *barrier = mpf_at(arena, off);
    mpf_table_destroy(arena, &barrier->table);
}
