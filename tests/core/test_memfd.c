/* The file behind the arena: sealed, private to the user, sparse, found again, and never in the way. */
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "platform/memfd.h"

#define MIB (UINT64_C(1) << 20)

static struct mpf_memfd file;

static void create(uint64_t bytes) { CHECK_EQUAL(mpf_memfd_create(bytes, MIB, &file), 0); }

static uint64_t pages_of_file(void)
{
    struct stat st;
    CHECK_EQUAL(fstat(file.fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void test_created(void)
{
    struct stat st;
    create(64 * MIB);
    CHECK_EQUAL(file.size, 64 * MIB);
    CHECK_EQUAL(fstat(file.fd, &st), 0);
    CHECK_EQUAL(st.st_mode & 0777, 0600);
    CHECK(fcntl(file.fd, F_GETFD) & FD_CLOEXEC);
    CHECK(ftruncate(file.fd, 4096) < 0 && errno == EPERM);
    CHECK(ftruncate(file.fd, (off_t)(128 * MIB)) < 0 && errno == EPERM);
    CHECK_EQUAL(pages_of_file(), 0);
    mpf_memfd_close(&file);
    CHECK_EQUAL(file.fd, -1);
}

static void commit_and_punch(bool intact)
{
    create(64 * MIB);
    CHECK_EQUAL(mpf_memfd_commit(&file, intact, MIB, 2 * MIB), 0);
    CHECK_EQUAL(pages_of_file(), 2 * MIB);
    memset(file.base + MIB, 0x77, 2 * MIB);
    mpf_memfd_punch(&file, intact, MIB, MIB);
    CHECK_EQUAL(pages_of_file(), MIB);
    CHECK_EQUAL(file.base[MIB], 0);
    CHECK_EQUAL(file.base[2 * MIB], 0x77);
    mpf_memfd_close(&file);
}

static void test_commit_and_punch(void)
{
    commit_and_punch(true);
    commit_and_punch(false); /* through the mapping alone */
}

static void test_file_size_limit(void)
{
    struct rlimit limit = {.rlim_cur = 8 * MIB, .rlim_max = RLIM_INFINITY};
    CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    create(64 * MIB); /* without the signal that kills */
    CHECK_EQUAL(file.size, 8 * MIB);
    CHECK_EQUAL(mpf_memfd_commit(&file, true, 0, 8 * MIB), 0);
    limit.rlim_cur = MIB / 2;
    CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_EQUAL(mpf_memfd_create(64 * MIB, MIB, &file), -ENOMEM);
}

#if !UNDER_ASAN && !UNDER_TSAN
static void test_address_space_limit(void)
{
    struct rlimit limit = {.rlim_cur = UINT64_C(1) << 30, .rlim_max = RLIM_INFINITY};
    CHECK_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
    create(UINT64_C(64) << 30);
    CHECK(file.size < (UINT64_C(1) << 30) && file.size >= (UINT64_C(1) << 28));
}
#endif

static void test_without_standard_streams(void)
{
    int error = dup(2);
    close(0);
    close(1);
    close(2);
    create(MIB);
    dup2(error, 2);
    CHECK(file.fd > 2);
}

static void test_descriptors_run_out(void)
{
    struct rlimit limit = {.rlim_cur = 3, .rlim_max = 100};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQUAL(mpf_memfd_create(MIB, MIB, &file), -EMFILE);
    limit.rlim_cur = 100; /* sanitizers want a descriptor at exit */
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void test_intact(void)
{
    create(MIB);
    CHECK(mpf_memfd_intact(&file));
    int other = open("/dev/null", O_RDONLY);
    dup2(other, file.fd);
    CHECK(!mpf_memfd_intact(&file));
    close(file.fd);
    CHECK(!mpf_memfd_intact(&file));
    CHECK_EQUAL(mpf_memfd_commit(&file, false, 0, MIB), 0);
    memset(file.base, 1, MIB);
}

static void test_adopt(void)
{
    struct mpf_memfd copy;
    create(MIB);
    CHECK_EQUAL(mpf_memfd_commit(&file, true, 0, 4096), 0);
    CHECK_EQUAL(mpf_memfd_adopt(file.fd, &copy), 0);
    CHECK(copy.fd != file.fd && copy.size == file.size && copy.inode == file.inode);
    file.base[5] = 42;
    CHECK_EQUAL(copy.base[5], 42);
    CHECK_EQUAL(mpf_memfd_adopt(-1, &copy), -EBADF);
    CHECK_EQUAL(mpf_memfd_adopt(open("/dev/null", O_RDWR), &copy), -EINVAL);
    int unsealed = memfd_create(MPF_MEMFD_NAME, MFD_ALLOW_SEALING);
    CHECK_EQUAL(mpf_memfd_adopt(unsealed, &copy), -EINVAL);
}

static bool is_ours(int fd, void *context)
{
    struct stat st;
    (void)context;
    return fstat(fd, &st) == 0 && (uint64_t)st.st_ino == file.inode;
}

static void wait_forever(void *argument)
{
    (void)argument;
    for (;;)
        pause();
}

static void test_found_elsewhere(void)
{
    create(MIB);
    int number = file.fd;
    pid_t pid = check_fork(wait_forever, NULL);
    close(file.fd);
    int fd = mpf_memfd_open_remote(pid, number);
    CHECK(fd >= 0 && is_ours(fd, NULL));
    close(fd);
    CHECK(mpf_memfd_open_remote(pid, 0) < 0);
    CHECK(mpf_memfd_open_remote(0, number) < 0);
    fd = mpf_memfd_search(is_ours, NULL);
    CHECK(fd >= 0);
    close(fd);
    kill(pid, SIGKILL);
    check_wait(pid);
    CHECK_EQUAL(mpf_memfd_search(is_ours, NULL), -ENOENT);
}

static void test_more_than_there_is(void)
{
    create(UINT64_C(1) << 40);
    CHECK_EQUAL(mpf_memfd_commit(&file, true, 0, file.size), -ENOMEM);
    CHECK_EQUAL(pages_of_file(), 0);
}

CHECK_MAIN({"created", test_created}, {"commit_and_punch", test_commit_and_punch},
           {"file_size_limit", test_file_size_limit},
#if !UNDER_ASAN && !UNDER_TSAN
           {"address_space_limit", test_address_space_limit},
#endif
           {"without_standard_streams", test_without_standard_streams},
           {"descriptors_run_out", test_descriptors_run_out}, {"intact", test_intact}, {"adopt", test_adopt},
           {"found_elsewhere", test_found_elsewhere}, {"more_than_there_is", test_more_than_there_is})
