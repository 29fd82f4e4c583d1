/* Dicts: contents and order as of a plain table, readers that meet no half-written value, all or nothing after a kill. */
#include "container_check.h"

#include "containers/dict.h"

static struct mpf_ref ref;
static struct mpf_container_shm *dict;

static void setup(void) {
    container_start();
    dict = make(MPF_BLOCK_DICT, sizeof *dict, &ref);
    mpf_dict_init(dict);
}

/* ---- keys ---- */

struct numbered_key {
    struct mpf_dict_key key;
    char bytes[64];
};

/* Every third is long; every fifth has more behind its canonical bytes than those that are equal to it. */
static void name_key(struct numbered_key *named, uint32_t number, bool other_spelling) {
    size_t canonical = number % 3 == 0 ? 40 : 6;
    memset(named->bytes, 'k', sizeof named->bytes);
    memcpy(named->bytes, &number, sizeof number);
    named->key = (struct mpf_dict_key){.data = named->bytes, .canonical = canonical, .bytes = canonical};
    if (number % 5 == 0)
        named->key.bytes += other_spelling ? 9 : 5;
    mpf_dict_key_seal(arena, &named->key);
}

static uint32_t key_number(const char *data) {
    uint32_t number;
    memcpy(&number, data, sizeof number);
    return number;
}

/* ---- one operation ---- */

static int set(uint32_t key, uint32_t value) {
    struct numbered_key named;
    struct mpf_datum datum;
    name_key(&named, key, value % 2);
    make_value(value, &datum);
    int rc = mpf_dict_set(arena, dict, &named.key, &datum);
    mpf_datum_drop(&datum);
    return rc;
}

static int get(uint32_t key, uint32_t *value) {
    struct numbered_key named;
    struct mpf_fetched fetched;
    char buffer[MPF_DATUM_COPY_MAX];
    name_key(&named, key, false);
    int rc = mpf_dict_get(arena, dict, &named.key, buffer, &fetched);
    if (rc == 0)
        *value = take_number(&fetched);
    return rc;
}

static int remove_key(uint32_t key, uint32_t *value) {
    struct numbered_key named;
    struct mpf_fetched fetched;
    char buffer[MPF_DATUM_COPY_MAX];
    name_key(&named, key, true);
    int rc = mpf_dict_remove(arena, dict, &named.key, buffer, &fetched);
    if (rc == 0)
        *value = take_number(&fetched);
    return rc;
}

static int remove_last(uint32_t *key, uint32_t *value) {
    struct mpf_fetched fetched_key, fetched;
    char key_buffer[MPF_DATUM_COPY_MAX], buffer[MPF_DATUM_COPY_MAX];
    int rc = mpf_dict_remove_last(arena, dict, key_buffer, &fetched_key, buffer, &fetched);
    if (rc == 0) {
        *key = key_number(fetched_key.data);
        mpf_fetched_drop(&fetched_key);
        *value = take_number(&fetched);
    }
    return rc;
}

static int set_default(uint32_t key, uint32_t value, uint32_t *present) {
    struct numbered_key named;
    struct mpf_datum datum;
    struct mpf_fetched fetched;
    char buffer[MPF_DATUM_COPY_MAX];
    name_key(&named, key, false);
    make_value(value, &datum);
    int rc = mpf_dict_set_default(arena, dict, &named.key, &datum, buffer, &fetched);
    mpf_datum_drop(&datum);
    if (rc == 1)
        *present = take_number(&fetched);
    return rc;
}

enum { BATCH = 12 }; /* some of them are changed in place, some make a body anew */

/* Keys first ... first + count - 1 get values value, value + 1 ...; `assign`: they become the contents. */
static int set_many(uint32_t first, uint32_t count, uint32_t value, const uint64_t *assign) {
    static _Thread_local struct numbered_key named[BATCH];
    struct mpf_dict_item items[BATCH] = {0};
    for (uint32_t i = 0; i < count; i++) {
        name_key(&named[i], first + i, false);
        items[i].key = named[i].key;
        make_value(value + i, &items[i].value);
    }
    int rc = assign ? mpf_dict_assign(arena, dict, items, count, *assign) : mpf_dict_update(arena, dict, items, count);
    for (uint32_t i = 0; i < count; i++) {
        mpf_datum_drop(&items[i].key_datum);
        mpf_datum_drop(&items[i].value);
    }
    return rc;
}

/* ---- a plain table to compare with ---- */

enum { MODEL_MAX = 4096 };

struct model {
    uint32_t count;
    uint32_t key[MODEL_MAX], value[MODEL_MAX];
};

static uint32_t model_find(const struct model *model, uint32_t key) {
    uint32_t i = 0;
    while (i < model->count && model->key[i] != key)
        i++;
    return i;
}

static void model_set(struct model *model, uint32_t key, uint32_t value) {
    uint32_t i = model_find(model, key);
    CHECK(i < MODEL_MAX);
    model->count += i == model->count;
    model->key[i] = key;
    model->value[i] = value;
}

static void model_remove(struct model *model, uint32_t i) {
    model->count--;
    memmove(&model->key[i], &model->key[i + 1], (model->count - i) * sizeof model->key[0]);
    memmove(&model->value[i], &model->value[i + 1], (model->count - i) * sizeof model->value[0]);
}

/* Whether the dict has exactly what the model has, in its order. */
static bool is_like(const struct model *model) {
    struct mpf_snapshot snapshot = {0};
    CHECK_EQUAL(mpf_dict_snapshot(arena, dict, MPF_DICT_KEYS | MPF_DICT_VALUES, 0, &snapshot), 0);
    CHECK_EQUAL(mpf_container_count(arena, dict), snapshot.count);
    bool like = snapshot.count == model->count;
    for (uint32_t i = 0; like && i < model->count; i++)
        like = key_number(mpf_snapshot_data(&snapshot, &snapshot.items[i].datum[0])) == model->key[i] &&
               number_in(&snapshot, &snapshot.items[i].datum[1]) == model->value[i];
    for (uint32_t i = 0; i < snapshot.count; i++) {
        uint32_t value;
        CHECK_EQUAL(get(key_number(mpf_snapshot_data(&snapshot, &snapshot.items[i].datum[0])), &value), 0);
    }
    mpf_snapshot_free(&snapshot);
    return like;
}

/* One random operation on either or both. */
static void operate(uint64_t *random, struct model *model, bool real) {
    uint32_t kind = check_random(random) % 16, key = check_random(random) % 60, value = check_random(random) % 100000;
    uint32_t i = model_find(model, key), got = 0, got_key = 0, count = 1 + value % BATCH;
    switch (kind) {
    case 0: case 1: case 2: case 3: case 4:
        if (real)
            CHECK_EQUAL(set(key, value), 0);
        model_set(model, key, value);
        break;
    case 5: case 6: case 7:
        if (real) {
            CHECK_EQUAL(remove_key(key, &got), i < model->count ? 0 : -ENOENT);
            CHECK(i == model->count || got == model->value[i]);
        }
        if (i < model->count)
            model_remove(model, i);
        break;
    case 8: case 9:
        if (real) {
            CHECK_EQUAL(set_default(key, value, &got), i < model->count);
            CHECK(i == model->count || got == model->value[i]);
        }
        if (i == model->count)
            model_set(model, key, value);
        break;
    case 10: case 11:
        if (real)
            CHECK_EQUAL(remove_last(&got_key, &got), model->count ? 0 : -ENOENT);
        if (model->count) {
            model->count--;
            CHECK(!real || (got_key == model->key[model->count] && got == model->value[model->count]));
        }
        break;
    case 12: case 13:
        if (real)
            CHECK_EQUAL(set_many(key, count, value, NULL), 0);
        for (uint32_t k = 0; k < count; k++)
            model_set(model, key + k, value + k);
        break;
    case 14:
        if (real) {
            uint64_t version = atomic_load(&dict->version);
            CHECK_EQUAL(set_many(key, count, value, &version), 0);
        }
        model->count = 0;
        for (uint32_t k = 0; k < count; k++)
            model_set(model, key + k, value + k);
        break;
    default:
        if (real && value % 4 == 0)
            mpf_dict_clear(arena, dict);
        if (value % 4 == 0)
            model->count = 0;
    }
}

/* ---- tests ---- */

static void test_like_a_table(void) {
    static struct model model;
    uint64_t random = 17;
    setup();
    CHECK(is_like(&model));
    for (int step = 0; step < 20000; step++) {
        operate(&random, &model, true);
        if (step % 50 == 0)
            CHECK(is_like(&model));
    }
    CHECK(is_like(&model));
    finish(&ref);
}

static void test_growth(void) {
    enum { ENTRIES = 100000 };
    uint32_t value;
    setup();
    for (uint32_t i = 0; i < ENTRIES; i++)
        CHECK_EQUAL(set(i, i * 8), 0);
    CHECK_EQUAL(mpf_container_count(arena, dict), ENTRIES);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        CHECK_EQUAL(get(i, &value), 0);
        CHECK_EQUAL(value, i * 8);
    }
    for (uint32_t i = 0; i < ENTRIES; i += 2)
        CHECK_EQUAL(remove_key(i, &value), 0);
    for (uint32_t i = 0; i < ENTRIES; i++)
        CHECK_EQUAL(get(i, &value), i % 2 ? 0 : -ENOENT);
    finish(&ref);
}

static void test_bounded_under_churn(void) {
    struct mpf_block_stats before, after;
    uint32_t value;
    setup();
    for (uint32_t i = 0; i < (UNDER_TSAN ? 20000 : 200000); i++) {
        CHECK_EQUAL(set(i, i), 0);
        if (i >= 10)
            CHECK_EQUAL(remove_key(i - 10, &value), 0);
        if (i == 1000)
            mpf_block_stats(arena, &before);
    }
    mpf_block_stats(arena, &after);
    CHECK(after.bytes <= before.bytes + 20000);
    finish(&ref);
}

static void test_assign_only_if_unchanged(void) {
    setup();
    CHECK_EQUAL(set(1, 1), 0);
    uint64_t version = atomic_load(&dict->version);
    CHECK_EQUAL(set(2, 2), 0);
    CHECK_EQUAL(set_many(10, 3, 5, &version), -ESTALE);
    CHECK_EQUAL(mpf_container_count(arena, dict), 2);
    version = atomic_load(&dict->version);
    CHECK_EQUAL(set_many(10, 3, 5, &version), 0);
    CHECK_EQUAL(mpf_container_count(arena, dict), 3);
    finish(&ref);
}

/* Foreign keys: the caller says which entry it means. */
static void test_foreign_keys(void) {
    struct mpf_datum datum;
    struct mpf_fetched fetched;
    char buffer[MPF_DATUM_COPY_MAX];
    uint32_t value;
    setup();
    struct mpf_dict_key key = {.data = "some object", .bytes = 11, .foreign = true};
    mpf_dict_key_seal(arena, &key);
    make_value(8, &datum);
    CHECK_EQUAL(set(1, 1), 0);
    CHECK_EQUAL(get(2, &value), -ENOENT);
    CHECK_EQUAL(mpf_dict_set(arena, dict, &key, &datum), -EXDEV);
    key.resolved = true;
    CHECK_EQUAL(mpf_dict_set(arena, dict, &key, &datum), -ESTALE); /* there is an entry since as_of */
    key.as_of = 1;
    CHECK_EQUAL(mpf_dict_set(arena, dict, &key, &datum), 0);
    CHECK_EQUAL(mpf_container_count(arena, dict), 2);
    CHECK_EQUAL(get(2, &value), -EXDEV); /* may equal the foreign one */
    CHECK_EQUAL(get(1, &value), 0);
    CHECK_EQUAL(mpf_dict_get(arena, dict, &key, buffer, &fetched), -ESTALE);
    key.serial = 2;
    CHECK_EQUAL(mpf_dict_get(arena, dict, &key, buffer, &fetched), 0);
    CHECK_EQUAL(take_number(&fetched), 8);
    key.as_of = 2;
    CHECK_EQUAL(mpf_dict_remove(arena, dict, &key, NULL, NULL), 0);
    CHECK_EQUAL(mpf_dict_get(arena, dict, &key, buffer, &fetched), -ENOENT);
    CHECK_EQUAL(get(2, &value), -ENOENT);
    finish(&ref);
}

static void test_links_live_as_long_as_values(void) {
    struct mpf_block_stats stats;
    setup();
    CHECK_EQUAL(set(1, 6), 0);
    CHECK_EQUAL(set(2, 14), 0);
    mpf_block_stats(arena, &stats);
    CHECK_EQUAL(stats.blocks[MPF_BLOCK_RAW], 2);
    CHECK_EQUAL(set(1, 8), 0);
    mpf_block_stats(arena, &stats);
    CHECK_EQUAL(stats.blocks[MPF_BLOCK_RAW], 1);
    mpf_dict_clear(arena, dict);
    mpf_block_stats(arena, &stats);
    CHECK_EQUAL(stats.blocks[MPF_BLOCK_RAW], 0);
    finish(&ref);
}

/* Every value is whole, and one that its key had. */
static void read_for_ever(_Atomic int *stop, uint64_t seed) {
    uint32_t value;
    while (!atomic_load(stop)) {
        uint32_t key = check_random(&seed) % 20;
        if (get(key, &value) == 0)
            CHECK_EQUAL(value / 8 % 20, key);
        CHECK(mpf_container_count(arena, dict) <= 20);
    }
}

static void write_often(uint64_t seed, int rounds) {
    uint32_t value;
    for (int i = 0; i < rounds; i++) {
        uint32_t key = check_random(&seed) % 20, random = check_random(&seed);
        if (random % 5 == 0)
            remove_key(key, &value);
        else
            CHECK_EQUAL(set(key, (random % 1000 * 20 + key) * 8 + random % 8), 0);
        if (i % 300 == 0)
            mpf_dict_clear(arena, dict);
    }
}

static _Atomic int *stop;

static void *reader_thread(void *argument) {
    read_for_ever(stop, (uint64_t)(uintptr_t)argument);
    return NULL;
}

static void *writer_thread(void *argument) {
    write_often((uint64_t)(uintptr_t)argument, UNDER_TSAN ? 3000 : 20000);
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

enum { USERS = 3, OWN = 16 };

/* What each user of the crowd has said that it has done; written by it alone. */
static struct {
    _Atomic uint32_t acknowledged[USERS][OWN]; /* value of its key, 0: removed */
    _Atomic uint32_t begun[USERS][OWN];        /* what it may be by now */
} *told;

static uint32_t own_key(int user, uint32_t i) { return 1000 + (uint32_t)user * OWN + i; }

static void use_own_keys(int user) {
    uint64_t seed = (uint64_t)user * 77 + (uint64_t)getpid();
    uint32_t value;
    for (int round = 0; round < 1500; round++) {
        uint32_t i = check_random(&seed) % OWN, number = check_random(&seed) % 100000 + 8;
        bool removes = number % 4 == 0;
        atomic_store(&told->begun[user][i], removes ? 0 : number);
        if (removes)
            remove_key(own_key(user, i), &value);
        else
            CHECK_EQUAL(set(own_key(user, i), number), 0);
        atomic_store(&told->acknowledged[user][i], removes ? 0 : number);
        CHECK_EQUAL(set_many(check_random(&seed) % 5, 2, number, NULL), 0);
        get(check_random(&seed) % 5, &value);
    }
}

static void check_told(void) {
    for (int user = 0; user < USERS; user++)
        for (uint32_t i = 0; i < OWN; i++) {
            uint32_t value = 0, acknowledged = atomic_load(&told->acknowledged[user][i]);
            if (get(own_key(user, i), &value) == -ENOENT)
                value = 0;
            CHECK(value == acknowledged || value == atomic_load(&told->begun[user][i]));
            atomic_store(&told->acknowledged[user][i], value);
        }
}

static void test_random_kills(void) {
    const struct crowd crowd = {USERS, use_own_keys};
    uint64_t random = 5;
    setup();
    told = check_shared(sizeof *told);
    for (int i = 0; i < (UNDER_TSAN ? 8 : 40); i++) {
        crowd_run(&crowd, NULL, 0, &random);
        check_told();
        mpf_block_check(arena);
    }
    finish(&ref);
}

#ifdef MPF_DEBUG
static _Atomic int *steps_done;
static struct model script_model;

static void run_script(void *argument) {
    char rule[64];
    uint64_t random = 23;
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
        uint64_t random = 23;
        dict = make(MPF_BLOCK_DICT, sizeof *dict, &ref);
        mpf_dict_init(dict);
        atomic_store(steps_done, 0);
        status = check_wait(check_fork(run_script, &nth));
        before.count = after.count = 0;
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

CHECK_MAIN({"like_a_table", test_like_a_table}, {"growth", test_growth}, {"bounded_under_churn", test_bounded_under_churn},
           {"assign_only_if_unchanged", test_assign_only_if_unchanged}, {"foreign_keys", test_foreign_keys},
           {"links_live_as_long_as_values", test_links_live_as_long_as_values}, {"threads", test_threads},
           {"random_kills", test_random_kills},
#ifdef MPF_DEBUG
           {"killed_at_every_point", test_killed_at_every_point},
#endif
)
