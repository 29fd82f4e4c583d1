/* Tasks: payloads of every length go through a record unharmed, and state words keep what they are made of. */
#include "engine_check.h"

static struct mpf_task_shm *record;

static void setup(struct mpf_ref *ref) {
    start();
    record = make(MPF_BLOCK_TABLE, MPF_TASK_SLOTS_MAX * MPF_TASK_SLOT_BYTES, ref);
}

static void test_state_words(void) {
    uint64_t big = (UINT64_C(7) << MPF_TASK_ORDINAL_BITS) | 12345;
    uint64_t state = mpf_task_state(big, 0xabcde, MPF_TASK_CONDEMNED);
    CHECK_EQUAL(mpf_task_ordinal(state), 12345);
    CHECK_EQUAL(mpf_task_worker(state), 0xabcde);
    CHECK_EQUAL(mpf_task_status(state), MPF_TASK_CONDEMNED);
}

static void write_payload(const void *context, void *to) {
    const uint32_t *bytes = context;
    fill_payload(to, *bytes, *bytes);
}

/* What lies behind the payload stays as it is, and every slot keeps its state word. */
static void check_bounds(uint32_t bytes) {
    uint32_t slots = mpf_task_slots(bytes);
    CHECK(slots <= MPF_TASK_SLOTS_MAX);
    for (uint32_t slot = 0; slot < MPF_TASK_SLOTS_MAX; slot++)
        CHECK_EQUAL(atomic_load(&record[slot].state), 77 + slot);
    const unsigned char *behind = (const unsigned char *)(record + slots);
    for (uint32_t i = 8; slots < MPF_TASK_SLOTS_MAX && i < MPF_TASK_SLOT_BYTES; i++)
        CHECK_EQUAL(behind[i], 0xee);
}

static void test_every_length(void) {
    static char whole[MPF_TASK_INLINE_MAX], gathered[MPF_TASK_INLINE_MAX];
    struct mpf_ref ref;
    setup(&ref);
    for (uint32_t bytes = 8; bytes <= MPF_TASK_INLINE_MAX; bytes++) {
        struct mpf_lane_message message = {.bytes = bytes, .tag = 9};
        struct mpf_task task;
        memset(record, 0xee, MPF_TASK_SLOTS_MAX * MPF_TASK_SLOT_BYTES);
        for (uint32_t slot = 0; slot < MPF_TASK_SLOTS_MAX; slot++)
            atomic_store(&record[slot].state, 77 + slot);
        if (bytes % 2 == 0) {
            fill_payload(whole, bytes, bytes);
            message.data = whole;
        } else {
            message.write = write_payload;
            message.context = &bytes;
        }
        record->block = 0;
        record->bytes = bytes;
        record->tag = 9;
        mpf_task_write(record, &message);
        check_bounds(bytes);
        CHECK_EQUAL(mpf_task_open(arena, record, gathered, &task), 0);
        CHECK_EQUAL(task.bytes, bytes);
        CHECK_EQUAL(task.tag, 9);
        CHECK(!task.shared && task.block.off == 0);
        CHECK_EQUAL(check_payload(task.data, task.bytes), bytes);
    }
    finish(&ref);
}

static void test_nothing_is_a_payload(void) {
    struct mpf_ref ref;
    struct mpf_task task;
    struct mpf_lane_message message = {.data = "", .bytes = 0};
    setup(&ref);
    mpf_task_write(record, &message);
    CHECK_EQUAL(mpf_task_slots(0), 1);
    CHECK_EQUAL(mpf_task_open(arena, record, NULL, &task), 0);
    CHECK_EQUAL(task.bytes, 0);
    finish(&ref);
}

static void put_block(uint32_t flags, uint64_t number) {
    struct mpf_ref block;
    CHECK_EQUAL(mpf_block_alloc(arena, BLOCK_BYTES, MPF_BLOCK_MESSAGE, &block), 0);
    fill_payload(mpf_at(arena, block.off), number, BLOCK_BYTES);
    record->bytes = flags;
    record->block_generation = block.generation;
    mpf_block_put(&block, &record->block);
}

static void test_a_block_moves_out(void) {
    struct mpf_ref ref;
    struct mpf_task task;
    setup(&ref);
    put_block(0, 3);
    CHECK_EQUAL(mpf_task_open(arena, record, NULL, &task), 0);
    CHECK_EQUAL(record->block, 0);
    CHECK(!task.shared);
    CHECK_EQUAL(task.bytes, BLOCK_BYTES);
    CHECK_EQUAL(check_payload(task.data, task.bytes), 3);
    mpf_block_unref(&task.block);
    finish(&ref);
}

static void test_a_kept_block_stays(void) {
    struct mpf_ref ref;
    struct mpf_task task;
    setup(&ref);
    put_block(MPF_TASK_KEEP, 4);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(mpf_task_open(arena, record, NULL, &task), 0);
        CHECK(record->block != 0 && task.shared);
        CHECK_EQUAL(check_payload(task.data, task.bytes), 4);
        mpf_block_unref(&task.block);
    }
    mpf_block_replace(arena, &record->block, 0);
    finish(&ref);
}

CHECK_MAIN({"state_words", test_state_words}, {"every_length", test_every_length},
           {"nothing_is_a_payload", test_nothing_is_a_payload}, {"a_block_moves_out", test_a_block_moves_out},
           {"a_kept_block_stays", test_a_kept_block_stays})
