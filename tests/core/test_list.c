/* Lists: contents as of a plain array, readers that meet no half-written value, all or nothing after a kill. */
#include "container_check.h"

#include "containers/list.h"

static struct mpf_ref ref;
static struct mpf_container_shm *list;

static void setup(void) {
    container_start();
    list = make(MPF_BLOCK_LIST, sizeof *list, &ref);
    mpf_list_init(list);
}

/* ---- one operation ---- */

static int get(int64_t index, uint32_t *value) {
    struct mpf_fetched fetched;
    char buffer[MPF_DATUM_COPY_MAX];
    int rc = mpf_list_get(arena, list, index, buffer, &fetched);
    if (rc == 0)
        *value = take_number(&fetched);
    return rc;
}

static int set(int64_t index, uint32_t value) {
    struct mpf_datum datum;
    make_value(value, &datum);
    int rc = mpf_list_set(arena, list, index, &datum);
    mpf_datum_drop(&datum);
    return rc;
}

static int insert(int64_t index, uint32_t value) {
    struct mpf_datum datum;
    make_value(value, &datum);
    int rc = mpf_list_insert(arena, list, index, &datum);
    mpf_datum_drop(&datum);
    return rc;
}

static int append(uint32_t value) { return insert(INT64_MAX, value); }

static int take(int64_t index, uint32_t *value) {
    struct mpf_fetched fetched;
    char buffer[MPF_DATUM_COPY_MAX];
    int rc = mpf_list_remove(arena, list, index, NULL, buffer, &fetched);
    if (rc == 0)
        *value = take_number(&fetched);
    return rc;
}

enum { BATCH = 12 }; /* some of them are changed in place, some make a body anew */

/* Values value, value + 1 ... in the place of the range; count 0 and `removes`: nothing. */
static int splice(struct mpf_list_range range, uint32_t value, uint32_t count, bool removes, uint64_t *had) {
    struct mpf_datum values[BATCH];
    for (uint32_t i = 0; i < count; i++)
        make_value(value + i, &values[i]);
    int rc = mpf_list_splice(arena, list, range, removes, values, count, NULL, had);
    for (uint32_t i = 0; i < count; i++)
        mpf_datum_drop(&values[i]);
    return rc;
}

/* ---- a plain array to compare with ---- */

enum { MODEL_MAX = 400 };

struct model {
    uint32_t count;
    uint32_t value[MODEL_MAX];
};

static void model_splice(struct model *model, uint32_t from, uint32_t to, uint32_t value, uint32_t count) {
    CHECK(model->count - (to - from) + count <= MODEL_MAX);
    memmove(&model->value[from + count], &model->value[to], (model->count - to) * sizeof model->value[0]);
    model->count = model->count - (to - from) + count;
    for (uint32_t i = 0; i < count; i++)
        model->value[from + i] = value + i;
}

static bool is_like(const struct model *model) {
    struct mpf_snapshot snapshot = {0};
    CHECK_EQUAL(mpf_list_snapshot(arena, list, MPF_LIST_ALL, &snapshot), 0);
    CHECK_EQUAL(mpf_container_count(arena, list), snapshot.count);
    bool like = snapshot.count == model->count;
    for (uint32_t i = 0; like && i < model->count; i++) {
        uint32_t value;
        like = number_in(&snapshot, &snapshot.items[i].datum[0]) == model->value[i];
        CHECK_EQUAL(get(i, &value), 0);
        CHECK_EQUAL(value, number_in(&snapshot, &snapshot.items[i].datum[0]));
    }
    mpf_snapshot_free(&snapshot);
    return like;
}

static void operate_on_many(uint64_t *random, struct model *model, bool real) {
    uint32_t kind = check_random(random) % 5, value = check_random(random) % 100000, count = check_random(random) % BATCH;
    uint32_t from = check_random(random) % (model->count + 1), to = from + check_random(random) % (model->count - from + 1);
    uint64_t had;
    if (model->count > MODEL_MAX - 2 * BATCH)
        kind = 4;
    switch (kind) {
    case 0:
        if (real)
            CHECK_EQUAL(splice((struct mpf_list_range){from, to, 1}, value, count, false, &had), 0);
        model_splice(model, from, to, value, count);
        break;
    case 1:
        if (real)
            CHECK_EQUAL(splice(MPF_LIST_END, value, count, false, &had), 0);
        model_splice(model, model->count, model->count, value, count);
        break;
    case 2: /* every third of a few */
        to = model->count < from + 3 * BATCH ? model->count : from + 3 * BATCH;
        count = (to - from + 2) / 3;
        if (real) {
            CHECK_EQUAL(splice((struct mpf_list_range){from, to, 3}, value, count, false, &had), 0);
            CHECK_EQUAL(had, count);
        }
        for (uint32_t i = 0; i < count; i++)
            model->value[from + 3 * i] = value + i;
        break;
    case 3:
        if (real)
            CHECK_EQUAL(mpf_list_arrange(arena, list, NULL, NULL), 0);
        for (uint32_t i = 0; i < model->count / 2; i++) {
            uint32_t swapped = model->value[i];
            model->value[i] = model->value[model->count - 1 - i];
            model->value[model->count - 1 - i] = swapped;
        }
        break;
    default:
        if (real)
            CHECK_EQUAL(splice((struct mpf_list_range){from, to, 1}, 0, 0, true, &had), 0);
        model_splice(model, from, to, 0, 0);
    }
}

static void operate(uint64_t *random, struct model *model, bool real) {
    uint32_t kind = check_random(random) % 16, value = check_random(random) % 100000, got = 0;
    uint32_t at = check_random(random) % (model->count + 2);
    if (kind >= 10 || model->count > MODEL_MAX - 10) {
        operate_on_many(random, model, real);
    } else if (kind < 3) {
        if (real)
            CHECK_EQUAL(append(value), 0);
        model_splice(model, model->count, model->count, value, 1);
    } else if (kind < 6) {
        if (real)
            CHECK_EQUAL(insert(at, value), 0);
        at = at < model->count ? at : model->count;
        model_splice(model, at, at, value, 1);
    } else if (kind < 8) {
        if (real)
            CHECK_EQUAL(set(at, value), at < model->count ? 0 : -ERANGE);
        if (at < model->count)
            model->value[at] = value;
    } else {
        if (real) {
            CHECK_EQUAL(take(at, &got), at < model->count ? 0 : -ERANGE);
            CHECK(at >= model->count || got == model->value[at]);
        }
        if (at < model->count)
            model_splice(model, at, at + 1, 0, 0);
    }
}

/* ---- tests ---- */

static void test_like_an_array(void) {
    static struct model model;
    uint64_t random = 17;
    setup();
    for (int step = 0; step < 20000; step++) {
        operate(&random, &model, true);
        if (step % 50 == 0)
            CHECK(is_like(&model));
    }
    CHECK(is_like(&model));
    finish(&ref);
}

static void test_negative_indices(void) {
    uint32_t value = 0;
    setup();
    CHECK_EQUAL(get(0, &value), -ERANGE);
    CHECK_EQUAL(take(-1, &value), -ERANGE);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQUAL(append(i), 0);
    CHECK_EQUAL(get(-1, &value), 0);
    CHECK_EQUAL(value, 2);
    CHECK_EQUAL(get(-3, &value), 0);
    CHECK_EQUAL(value, 0);
    CHECK_EQUAL(get(-4, &value), -ERANGE);
    CHECK_EQUAL(insert(-1, 8), 0);
    CHECK_EQUAL(get(2, &value), 0);
    CHECK_EQUAL(value, 8);
    CHECK_EQUAL(take(-2, &value), 0);
    CHECK_EQUAL(value, 8);
    finish(&ref);
}

static void test_ranges_with_steps(void) {
    uint64_t had;
    uint32_t value;
    setup();
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQUAL(append(i * 8), 0);
    CHECK_EQUAL(splice((struct mpf_list_range){0, 10, 2}, 8, 3, false, &had), -EINVAL);
    CHECK_EQUAL(had, 5);
    CHECK_EQUAL(splice((struct mpf_list_range){9, -100, -3}, 100, 4, false, &had), 0); /* 9, 6, 3, 0 */
    for (uint32_t k = 0; k < 4; k++) {
        CHECK_EQUAL(get(9 - 3 * (int64_t)k, &value), 0);
        CHECK_EQUAL(value, 100 + k);
    }
    CHECK_EQUAL(splice((struct mpf_list_range){-1, INT64_MIN, -1}, 200, 7, false, &had), -EINVAL);
    CHECK_EQUAL(splice((struct mpf_list_range){9, 0, -4}, 0, 0, true, &had), 0); /* 9, 5, 1 */
    CHECK_EQUAL(mpf_container_count(arena, list), 7);
    CHECK_EQUAL(get(1, &value), 0);
    CHECK_EQUAL(value, 16);
    finish(&ref);
}

static void test_changes_only_if_unchanged(void) {
    struct mpf_snapshot snapshot = {0};
    const uint64_t order[] = {2, 0, 1};
    uint32_t value;
    setup();
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQUAL(append(i), 0);
    CHECK_EQUAL(mpf_list_snapshot(arena, list, MPF_LIST_ALL, &snapshot), 0);
    CHECK_EQUAL(set(0, 5), 0);
    CHECK_EQUAL(mpf_list_arrange(arena, list, order, &snapshot.version), -ESTALE);
    CHECK_EQUAL(mpf_list_remove(arena, list, 0, &snapshot.version, NULL, NULL), -ESTALE);
    mpf_snapshot_free(&snapshot);
    CHECK_EQUAL(mpf_list_snapshot(arena, list, MPF_LIST_ALL, &snapshot), 0);
    CHECK_EQUAL(mpf_list_arrange(arena, list, order, &snapshot.version), 0);
    mpf_snapshot_free(&snapshot);
    CHECK_EQUAL(get(0, &value), 0);
    CHECK_EQUAL(value, 2);
    CHECK_EQUAL(get(1, &value), 0);
    CHECK_EQUAL(value, 5);
    finish(&ref);
}

static void test_bounded_as_a_queue(void) {
    struct mpf_block_stats before, after;
    uint32_t value;
    setup();
    for (uint32_t i = 0; i < (UNDER_TSAN ? 20000 : 100000); i++) {
        CHECK_EQUAL(append(i), 0);
        if (i >= 10)
            CHECK_EQUAL(take(0, &value), 0);
        if (i == 1000)
            mpf_block_stats(arena, &before);
    }
    mpf_block_stats(arena, &after);
    CHECK(after.bytes <= before.bytes + 20000);
    finish(&ref);
}

static _Atomic int *stop;

static void *reader_thread(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    uint32_t value;
    while (!atomic_load(stop)) {
        int rc = get((int64_t)(check_random(&seed) % 20), &value);
        CHECK(rc == 0 || rc == -ERANGE);
    }
    return NULL;
}

static void *writer_thread(void *argument) {
    uint64_t seed = (uint64_t)(uintptr_t)argument, had;
    uint32_t value;
    for (int i = 0; i < (UNDER_TSAN ? 3000 : 20000); i++) {
        uint32_t random = check_random(&seed), at = check_random(&seed) % 20;
        if (random % 4 == 0)
            (void)take(at, &value);
        else if (random % 4 == 1)
            (void)set(at, random % 10000);
        else if (mpf_container_count(arena, list) < 30)
            CHECK_EQUAL(insert(at, random % 10000), 0);
        if (i % 300 == 0)
            CHECK_EQUAL(splice(MPF_LIST_ALL, 0, 0, true, &had), 0);
    }
    return NULL;
}

static void test_threads(void) {
    pthread_t readers[2], writers[2];
    setup();
    stop = check_shared(sizeof *stop);
    for (uintptr_t i = 0; i < 2; i++) {
        CHECK_EQUAL(pthread_create(&readers[i], NULL, reader_thread, (void *)(i + 1)), 0);
        CHECK_EQUAL(pthread_create(&writers[i], NULL, writer_thread, (void *)(i + 10)), 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    atomic_store(stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(readers[i], NULL);
    finish(&ref);
}

/* ---- kills ---- */

enum { USERS = 3, ROUNDS = 400 };

/* How many values each user has said that it has appended. */
static _Atomic uint32_t *appended;

/* Appends values 8 * (user + USERS * n), n = 0, 1 ..., and does other things that leave them where they are. */
static void append_own(int user) {
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t n = atomic_load(&appended[user]);
        CHECK_EQUAL(append((uint32_t)user + USERS * n), 0);
        atomic_store(&appended[user], n + 1);
        CHECK_EQUAL(set(0, (uint32_t)round), 0);
        CHECK_EQUAL(mpf_list_arrange(arena, list, NULL, NULL), 0);
    }
}

/* As many items as were told of; at most one more of each user. */
static void check_appended(void) {
    struct mpf_snapshot snapshot = {0};
    uint32_t told = 0;
    CHECK_EQUAL(mpf_list_snapshot(arena, list, MPF_LIST_ALL, &snapshot), 0);
    for (size_t i = 0; i < snapshot.count; i++)
        (void)number_in(&snapshot, &snapshot.items[i].datum[0]);
    for (int user = 0; user < USERS; user++)
        told += atomic_load(&appended[user]);
    CHECK(snapshot.count >= told && snapshot.count <= told + USERS);
    mpf_snapshot_free(&snapshot);
}

static void test_random_kills(void) {
    const struct crowd crowd = {USERS, append_own};
    uint64_t random = 5, had;
    setup();
    appended = check_shared(USERS * sizeof *appended);
    for (int i = 0; i < (UNDER_TSAN ? 8 : 40); i++) {
        for (int user = 0; user < USERS; user++)
            atomic_store(&appended[user], 0);
        crowd_run(&crowd, NULL, 0, &random);
        check_appended();
        mpf_block_check(arena);
        CHECK_EQUAL(splice(MPF_LIST_ALL, 0, 0, true, &had), 0);
    }
    finish(&ref);
}

#ifdef MPF_DEBUG
/* Turns three items round with other values; stops on the way, outside the section. */
static void replace_backwards(void) {
    uint64_t had;
    CHECK_EQUAL(mpf_fault_set("body.made:1:stop"), 0);
    int rc = splice((struct mpf_list_range){-1, INT64_MIN, -1}, 100, 3, false, &had);
    _exit(rc == -EINVAL && had == 4 ? 0 : 1);
}

/* A range with a step has to fit the list that is changed, not the one that was looked at before the body was made. */
static void test_a_range_means_the_list_that_it_changes(void) {
    int status;
    uint32_t value;
    setup();
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQUAL(append(i), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        replace_backwards();
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
    CHECK_EQUAL(insert(0, 9), 0);
    CHECK_EQUAL(kill(pid, SIGCONT), 0);
    CHECK_EQUAL(check_wait(pid), 0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQUAL(get(i + 1, &value), 0);
        CHECK_EQUAL(value, i);
    }
    finish(&ref);
}

static _Atomic int *steps_done;
static struct model script_model;

static void run_script(void *argument) {
    char rule[64];
    uint64_t random = 29;
    snprintf(rule, sizeof rule, "*:%d:kill", *(int *)argument);
    CHECK_EQUAL(mpf_fault_set(rule), 0);
    for (int step = 0; step < 150; step++) {
        operate(&random, &script_model, true);
        atomic_store(steps_done, step + 1);
    }
    mpf_fault_set(NULL);
}

/* After a kill: the steps that were told of are there, and of the next one all or nothing. */
static void test_killed_at_every_point(void) {
    int status = -SIGKILL, nth;
    container_start();
    steps_done = check_shared(sizeof *steps_done);
    for (nth = 1; status == -SIGKILL; nth += 1 + nth / (UNDER_TSAN || UNDER_ASAN ? 15 : 60)) {
        static struct model before, after;
        uint64_t random = 29;
        list = make(MPF_BLOCK_LIST, sizeof *list, &ref);
        mpf_list_init(list);
        atomic_store(steps_done, 0);
        status = check_wait(check_fork(run_script, &nth));
        before.count = 0;
        for (int step = 0; step < atomic_load(steps_done); step++)
            operate(&random, &before, false);
        after = before;
        operate(&random, &after, false);
        CHECK(is_like(&before) || is_like(&after));
        mpf_block_check(arena);
        finish(&ref);
    }
    CHECK_EQUAL(status, 0);
    CHECK(nth > 1000);
}
#endif

CHECK_MAIN({"like_an_array", test_like_an_array}, {"negative_indices", test_negative_indices},
           {"ranges_with_steps", test_ranges_with_steps}, {"changes_only_if_unchanged", test_changes_only_if_unchanged},
           {"bounded_as_a_queue", test_bounded_as_a_queue}, {"threads", test_threads}, {"random_kills", test_random_kills},
#ifdef MPF_DEBUG
           {"a_range_means_the_list_that_it_changes", test_a_range_means_the_list_that_it_changes},
           {"killed_at_every_point", test_killed_at_every_point},
#endif
)
