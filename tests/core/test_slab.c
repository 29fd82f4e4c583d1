/* Slabs: classes that fit, blocks that do not overlap, spans that come and go. */
#include "check.h"

#include "memory/layout.h"

static struct mpf_arena *arena;

static void start(void) { CHECK_EQUAL(mpf_arena_home(&arena), 0); }

static void test_classes(void)
{
    for (uint64_t bytes = 0; bytes <= 40000; bytes++) {
        uint32_t klass = mpf_slab_class(bytes);
        if (klass == MPF_CLASSES) {
            CHECK(bytes > 32000);
            continue;
        }
        uint64_t stride = mpf_slab_stride(klass);
        CHECK(stride >= bytes + MPF_BLOCK_HEADER);
        CHECK(klass == 0 || mpf_slab_stride(klass - 1) < bytes + MPF_BLOCK_HEADER);
        CHECK_EQUAL(stride % 32, 0);
        CHECK(stride * mpf_slab_capacity(klass) <= MPF_SPAN_BYTES && mpf_slab_capacity(klass) >= 2);
        if (bytes >= 4096) {
            CHECK_EQUAL(stride % 64, 0);
            CHECK(stride * mpf_slab_capacity(klass) <= MPF_SPAN_BYTES - 32);
        }
    }
    CHECK_EQUAL(mpf_slab_class(UINT64_MAX), MPF_CLASSES);
}

static struct mpf_block_shm *take(uint32_t klass)
{
    struct mpf_block_shm *block;
    for (;;) {
        mpf_arena_enter(arena);
        int rc = mpf_slab_take(arena, klass, &block);
        if (rc == 0)
            MPF_SET32(arena, block->tag, (uint32_t)MPF_BLOCK_LIVE << 8);
        mpf_arena_leave(arena);
        if (rc == 0)
            return block;
        CHECK_EQUAL(rc, -EAGAIN);
        CHECK_EQUAL(mpf_slab_grow(arena, klass), 0);
    }
}

static void give_back(struct mpf_block_shm *block)
{
    mpf_arena_enter(arena);
    MPF_SET32(arena, block->tag, 0);
    uint32_t surplus = mpf_slab_return(arena, block);
    mpf_arena_leave(arena);
    CHECK_EQUAL(surplus, 0); /* little enough to be kept */
}

static void fill_and_empty(uint32_t klass)
{
    uint32_t count = 3 * mpf_slab_capacity(klass) + 1, stride = mpf_slab_stride(klass);
    struct mpf_block_shm **blocks = malloc(count * sizeof *blocks);
    for (uint32_t i = 0; i < count; i++) {
        blocks[i] = take(klass);
        memset(blocks[i] + 1, (int)i, stride - MPF_BLOCK_HEADER);
    }
    mpf_block_check(arena);
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *bytes = (const unsigned char *)(blocks[i] + 1);
        CHECK_EQUAL(bytes[0], (unsigned char)i);
        CHECK_EQUAL(bytes[stride - MPF_BLOCK_HEADER - 1], (unsigned char)i);
    }
    for (uint32_t i = 0; i < count; i += 2)
        give_back(blocks[i]);
    mpf_block_check(arena);
    for (uint32_t i = 0; i < count; i += 2)
        blocks[i] = take(klass);
    for (uint32_t i = 0; i < count; i++)
        give_back(blocks[i]);
    mpf_block_check(arena);
    CHECK_EQUAL(mpf_allocator(arena)->empty[klass], 1); /* one is kept, the others went back */
    free(blocks);
}

static void test_fill_and_empty(void)
{
    start();
    for (uint32_t klass = 0; klass < MPF_CLASSES; klass++)
        fill_and_empty(klass);
}

static void test_find(void)
{
    start();
    struct mpf_block_shm *block = take(3);
    mpf_off off = mpf_offset_of(arena, block + 1);
    uint32_t span = (uint32_t)(off >> MPF_SPAN_SHIFT);
    CHECK(mpf_slab_block(arena, span, off) == block);
    CHECK(mpf_slab_block(arena, span, off + 32) == NULL);
    CHECK(mpf_slab_block(arena, span, off + 10 * mpf_slab_stride(3)) == NULL); /* never used yet */
    give_back(block);
}

CHECK_MAIN({"classes", test_classes}, {"fill_and_empty", test_fill_and_empty}, {"find", test_find})
