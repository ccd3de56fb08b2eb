// Loaded into a program before the C library, it makes the clock step and the disk fail. What shall happen stands in a
// file of numbers that the test writes: how many seconds the clock is off, the error of each write to a file, and the
// error of each attempt to force a file to the disk; zero is as it should be.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *wishes;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TASKEY_TEST_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, 3 * sizeof *wishes, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) abort();
    wishes = map;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
// Others may call before the constructor has run.
#define WISH(number) (wishes ? wishes[number] : 0)

// Sockets and pipes are no disk.
static int fails(int file, int64_t error) {
    struct stat found;
    if (!error || fstat(file, &found) || !S_ISREG(found.st_mode)) return 0;
    errno = (int)error;
    return 1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int outcome = real(clock, now);
    if (!outcome && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += WISH(0);
    return outcome;
}

ssize_t write(int file, const void *from, size_t count) {
    return fails(file, WISH(1)) ? -1 : REAL(write)(file, from, count);
}

ssize_t pwrite(int file, const void *from, size_t count, off_t at) {
    return fails(file, WISH(1)) ? -1 : REAL(pwrite)(file, from, count, at);
}

ssize_t pwrite64(int file, const void *from, size_t count, off64_t at) {
    return fails(file, WISH(1)) ? -1 : REAL(pwrite64)(file, from, count, at);
}

int fsync(int file) { return fails(file, WISH(2)) ? -1 : REAL(fsync)(file); }

int fdatasync(int file) { return fails(file, WISH(2)) ? -1 : REAL(fdatasync)(file); }
