/* Memory with a name: it is new, there from the beginning, and nothing is left of one that could not be made. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "platform/fault.h"
#include "platform/named.h"
#include "platform/process.h"

#define BYTES 10000

static void end(struct mpf_named *named)
{
    CHECK_EQUAL(munmap(named->base, named->bytes), 0);
    mpf_named_discard(named);
}

static void test_made_and_mapped(void)
{
    struct mpf_named named, other;
    CHECK_EQUAL(mpf_named_create(&named, 0600, BYTES), 0);
    CHECK_EQUAL(strncmp(named.name, "/psm_", 5), 0);
    CHECK_EQUAL(named.bytes, BYTES);
    struct stat status;
    CHECK_EQUAL(fstat(named.fd, &status), 0);
    CHECK_EQUAL(status.st_ino, named.inode);
    CHECK_EQUAL(status.st_mode & 0777, 0600);
    CHECK(status.st_blocks * 512 >= BYTES); /* real pages */
    other.fd = shm_open(named.name, O_RDWR, 0);
    CHECK(other.fd >= 0);
    CHECK_EQUAL(mpf_named_map(&other), 0);
    ((char *)named.base)[BYTES - 1] = 7;
    CHECK_EQUAL(((char *)other.base)[BYTES - 1], 7);
    CHECK_EQUAL(other.inode, named.inode);
    CHECK_EQUAL(munmap(other.base, other.bytes), 0);
    close(other.fd);
    end(&named);
    CHECK_EQUAL(shm_open(named.name, O_RDWR, 0), -1);
    CHECK_EQUAL(errno, ENOENT);
}

static void test_an_empty_file_is_not_mapped(void)
{
    struct mpf_named named;
    named.fd = memfd_create("empty", MFD_CLOEXEC);
    CHECK(named.fd >= 0);
    CHECK_EQUAL(mpf_named_map(&named), 0);
    CHECK(named.base == NULL);
    CHECK_EQUAL(mpf_named_commit(named.fd, BYTES), 0);
    CHECK_EQUAL(mpf_named_map(&named), 0);
    CHECK_EQUAL(named.bytes, BYTES);
    CHECK_EQUAL(munmap(named.base, named.bytes), 0);
    close(named.fd);
}

static void test_nothing_is_left_of_what_cannot_be_made(void)
{
    struct mpf_named named;
    memset(&named, 0, sizeof named);
    CHECK_EQUAL(mpf_named_create(&named, 0600, (off_t)1 << 60), -ENOSPC);
    CHECK_EQUAL(fcntl(named.fd, F_GETFD), -1);
    CHECK_EQUAL(shm_open(named.name, O_RDWR, 0), -1);
    CHECK_EQUAL(errno, ENOENT);
    CHECK_EQUAL(mpf_named_create(&named, 0600, -1), -EINVAL);
    named.fd = -1;
    CHECK_EQUAL(mpf_named_map(&named), -EBADF);
}

/* A child draws names of its own, not those that its parent would have drawn next. */
static void test_a_forked_child_has_other_names(void)
{
    struct mpf_named named, *of_child = mmap(NULL, sizeof named, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(of_child != MAP_FAILED);
    CHECK_EQUAL(mpf_named_create(&named, 0600, 1), 0); /* more random bits are left */
    end(&named);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        mpf_process_after_fork();
        CHECK_EQUAL(mpf_named_create(of_child, 0600, 1), 0);
        end(of_child);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(mpf_named_create(&named, 0600, 1), 0);
    CHECK(strcmp(named.name, of_child->name) != 0);
    end(&named);
    CHECK_EQUAL(munmap(of_child, sizeof *of_child), 0);
}

#ifdef MPF_DEBUG
static void test_no_room(void)
{
    struct mpf_named named;
    CHECK_EQUAL(mpf_fault_set("named.commit:1:ENOSPC"), 0);
    CHECK_EQUAL(mpf_named_create(&named, 0600, 1), -ENOSPC);
    CHECK_EQUAL(mpf_fault_set(NULL), 0);
    CHECK_EQUAL(shm_open(named.name, O_RDWR, 0), -1);
    CHECK_EQUAL(mpf_named_create(&named, 0600, 1), 0);
    end(&named);
}
#endif

CHECK_MAIN({"made_and_mapped", test_made_and_mapped},
           {"an_empty_file_is_not_mapped", test_an_empty_file_is_not_mapped},
           {"nothing_is_left_of_what_cannot_be_made", test_nothing_is_left_of_what_cannot_be_made},
#ifdef MPF_DEBUG
           {"no_room", test_no_room},
#endif
           {"a_forked_child_has_other_names", test_a_forked_child_has_other_names})
