/* What the tests of the containers share: numbered keys and values of all lengths, and whole contents to compare with. */
#ifndef MPF_TESTS_CONTAINER_CHECK_H
#define MPF_TESTS_CONTAINER_CHECK_H

#include "sync_check.h"

#include "containers/container.h"

#define VALUE_MAX 6000

static inline void container_start(void) {
    start();
    mpf_containers_register_hooks();
}

/* A value says by each of its words which it is; its length follows from that. Some have a block that they refer to. */
static inline size_t value_bytes(uint32_t number) {
    static const size_t lengths[] = {8, 20, 100, 16, 5000, 8, 24, 8};
    return lengths[number % COUNT_OF(lengths)];
}
static inline bool value_is_linked(uint32_t number) { return number % 8 == 6; }

static inline void fill_value(void *data, uint32_t number) {
    for (size_t i = 0; i < value_bytes(number) / 4; i++)
        memcpy((char *)data + 4 * i, &number, 4);
}

/* The number of a value that was fetched; checks that it is whole. */
static inline uint32_t number_of(const char *data, size_t bytes) {
    uint32_t number, word;
    CHECK(bytes >= 4);
    memcpy(&number, data, 4);
    CHECK_EQUAL(bytes, value_bytes(number));
    for (size_t i = 0; i < bytes / 4; i++) {
        memcpy(&word, data + 4 * i, 4);
        CHECK_EQUAL(word, number);
    }
    return number;
}

static inline uint32_t take_number(struct mpf_fetched *fetched) {
    uint32_t number = number_of(fetched->data, fetched->bytes);
    mpf_fetched_drop(fetched);
    return number;
}

static inline void make_value(uint32_t number, struct mpf_datum *datum) {
    static _Thread_local char bytes[VALUE_MAX];
    struct mpf_ref link = {0};
    fill_value(bytes, number);
    struct mpf_datum_source source = {.data = bytes, .bytes = value_bytes(number)};
    if (value_is_linked(number)) {
        CHECK_EQUAL(mpf_block_alloc(arena, 64, MPF_BLOCK_RAW, &link), 0);
        source.links = &link;
        source.link_count = 1;
    }
    CHECK_EQUAL(mpf_datum_make(arena, &source, datum), 0);
    mpf_block_unref(&link);
}

static inline uint32_t number_in(const struct mpf_snapshot *snapshot, const struct mpf_snapshot_datum *datum) {
    return number_of(mpf_snapshot_data(snapshot, datum), datum->bytes);
}

#endif
