/* Chains of segments: each segment in exactly one place, those taken off come back, whoever is killed at whatever step. */
#include "sync_check.h"

#include "transport/chain.h"

/* As a lane has them: the words of the chain, and the segments at which its cursors stand. */
struct holder {
    struct mpf_chain_tail_shm tail;
    struct mpf_chain_head_shm head;
    struct mpf_chain_spare_shm spare;
    mpf_off last, current;
};

static struct mpf_ref ref;
static struct holder *chain;

static void destroy_chain(struct mpf_arena *owner, mpf_off off) {
    struct holder *holder = mpf_at(owner, off);
    mpf_chain_destroy(owner, &holder->tail, &holder->head, &holder->spare);
}

static void setup(void) {
    static const struct mpf_block_hooks hooks = {NULL, destroy_chain};
    start();
    mpf_block_set_hooks(MPF_BLOCK_QUEUE, &hooks);
    chain = make(MPF_BLOCK_QUEUE, sizeof *chain, &ref);
    CHECK_EQUAL(mpf_chain_init(arena, &chain->head), 0);
    chain->last = chain->current = chain->head.first;
}

static int grow(uint64_t need) {
    mpf_off next;
    int rc = mpf_chain_extend(arena, &chain->tail, &chain->spare, chain->last, need, &next);
    if (rc == 0)
        chain->last = next;
    return rc;
}

static void shrink(void) {
    mpf_chain_repair(arena, &chain->head, &chain->spare);
    CHECK(chain->current != chain->last);
    chain->current = mpf_segment_at(arena, chain->current)->next;
    mpf_chain_retire(arena, &chain->head, &chain->spare, chain->current);
    CHECK_EQUAL(chain->head.first, chain->current);
}

static uint64_t segments(void) {
    struct mpf_block_stats stats;
    mpf_block_stats(arena, &stats);
    return stats.blocks[MPF_BLOCK_TABLE];
}

static uint64_t length(void) {
    uint64_t count = 0;
    for (mpf_off s = chain->head.first; s != 0; s = mpf_segment_at(arena, s)->next)
        count++;
    return count;
}

static uint64_t spares(void) { return (chain->spare.word & ~UINT64_C(15)) != 0; }

static void test_a_segment_comes_back(void) {
    setup();
    CHECK_EQUAL(grow(100), 0);
    CHECK_EQUAL(segments(), 2);
    mpf_off first = chain->head.first;
    shrink();
    CHECK_EQUAL(segments(), 2);
    CHECK_EQUAL(spares(), 1);
    CHECK_EQUAL(grow(100), 0);
    CHECK_EQUAL(chain->last, first);
    CHECK_EQUAL(spares(), 0);
    for (int i = 0; i < 1000; i++) {
        shrink();
        CHECK_EQUAL(grow(100), 0);
        CHECK_EQUAL(segments(), 2);
        CHECK_EQUAL(length(), 2);
    }
    finish(&ref);
}

static void test_one_spare_segment_is_enough(void) {
    setup();
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(grow(100), 0);
    CHECK_EQUAL(length(), 11);
    for (int i = 0; i < 10; i++)
        shrink();
    CHECK_EQUAL(length(), 1);
    CHECK_EQUAL(segments(), 2);
    finish(&ref);
}

static void test_a_spare_segment_that_is_too_short_is_left_alone(void) {
    setup();
    CHECK_EQUAL(grow(100), 0);
    mpf_off first = chain->head.first;
    shrink();
    CHECK_EQUAL(grow(100000), 0);
    CHECK(chain->last != first);
    CHECK(mpf_segment_end(arena, chain->last) - mpf_segment_start(chain->last) >= 100000);
    CHECK_EQUAL(spares(), 1);
    CHECK_EQUAL(grow(100), 0);
    CHECK_EQUAL(chain->last, first);
    finish(&ref);
}

#ifdef MPF_DEBUG

/* From here on the chain works as if nothing had happened, and every segment is where it belongs. */
static void expect_sound(void) {
    mpf_chain_repair(arena, &chain->head, &chain->spare);
    if (chain->last == chain->current)
        CHECK_EQUAL(grow(100), 0);
    for (int i = 0; i < 20; i++) {
        shrink();
        CHECK_EQUAL(grow(100), 0);
        if (i % 3 == 0)
            CHECK_EQUAL(grow(3000), 0);
        else if (i % 3 == 1)
            shrink();
        CHECK_EQUAL(chain->tail.fresh, 0);
        CHECK_EQUAL(segments(), length() + spares());
        mpf_block_check(arena);
    }
}

static void grow_and_die(void *point) {
    die_at(point, 1);
    (void)grow(100);
}

static void test_kill_who_grows(void) {
    static const char *const points[] = {"chain.segment.allocated", "chain.segment.owned", "chain.segment.linked",
                                         "chain.spare.taken", "block.put", "block.alloc"};
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int spare = 0; spare < 2; spare++) {
            bool passes = strncmp(points[p], "chain.spare", 11) == 0   ? spare
                          : strstr(points[p], "segment.owned") != NULL ||
                                strstr(points[p], "segment.linked") != NULL
                              ? true
                              : !spare;
            setup();
            CHECK_EQUAL(grow(100), 0);
            if (spare)
                shrink();
            CHECK_EQUAL(check_wait(check_fork(grow_and_die, (void *)(uintptr_t)points[p])), passes ? -SIGKILL : 0);
            while (mpf_participant_reap(arena) > 0)
                ;
            expect_sound();
            finish(&ref);
        }
}

static void shrink_and_die(void *point) {
    die_at(point, 1);
    shrink();
}

/* What a killed one had made the spare segment may be in the chain again before anybody looks. */
static void test_kill_who_shrinks(void) {
    static const char *const points[] = {"chain.retire.marked", "chain.retire.unlinked", "chain.retire.kept", "block.replace",
                                         "block.free"};
    for (size_t p = 0; p < COUNT_OF(points); p++)
        for (int grown = 0; grown < 4; grown++) {
            bool spare_before = strncmp(points[p], "block", 5) == 0;
            setup();
            for (int i = 0; i < 3; i++)
                CHECK_EQUAL(grow(100), 0);
            if (spare_before)
                shrink();
            CHECK_EQUAL(check_wait(check_fork(shrink_and_die, (void *)(uintptr_t)points[p])), -SIGKILL);
            chain->current = chain->head.first;
            for (int i = 0; i < grown; i++)
                CHECK_EQUAL(grow(100), 0);
            while (mpf_participant_reap(arena) > 0)
                ;
            expect_sound();
            finish(&ref);
        }
}

static void drop_and_die(void *point) {
    die_at(point, 2);
    mpf_block_unref(&ref);
}

static void test_kill_who_destroys(void) {
    static const char *const points[] = {"chain.destroy.segment", "block.replace", "block.free", "block.destroyed"};
    for (size_t p = 0; p < COUNT_OF(points); p++) {
        setup();
        for (int i = 0; i < 4; i++)
            CHECK_EQUAL(grow(100), 0);
        shrink();
        _Atomic int *go = check_shared(sizeof *go);
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            await_flag(go, 1);
            drop_and_die((void *)(uintptr_t)points[p]);
            _exit(0);
        }
        mpf_block_unref(&ref);
        tell(go, 1);
        check_wait(pid);
        while (mpf_participant_reap(arena) > 0)
            ;
        CHECK_EQUAL(blocks_left(), 0);
        mpf_block_check(arena);
    }
}

#endif

CHECK_MAIN({"a_segment_comes_back", test_a_segment_comes_back},
           {"one_spare_segment_is_enough", test_one_spare_segment_is_enough},
           {"a_spare_segment_that_is_too_short_is_left_alone", test_a_spare_segment_that_is_too_short_is_left_alone},
#ifdef MPF_DEBUG
           {"kill_who_grows", test_kill_who_grows}, {"kill_who_shrinks", test_kill_who_shrinks},
           {"kill_who_destroys", test_kill_who_destroys},
#endif
)
