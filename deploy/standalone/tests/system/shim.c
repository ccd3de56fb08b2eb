// Loaded into a program with LD_PRELOAD to set its clock off and make the disk fail. The test writes three numbers to a
// file: the offset of the clock in seconds, the error number of each write to a file, and the error number of each fsync.
// Zero means no offset or no error.
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

static volatile int64_t *settings;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TASKEY_TEST_SHIM");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, 3 * sizeof *settings, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) abort();
    settings = map;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
// Functions may be called before the constructor has run.
#define SETTING(number) (settings ? settings[number] : 0)

// Only regular files fail, not sockets and pipes.
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
    if (!outcome && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += SETTING(0);
    return outcome;
}

ssize_t write(int file, const void *from, size_t count) {
    return fails(file, SETTING(1)) ? -1 : REAL(write)(file, from, count);
}

ssize_t pwrite(int file, const void *from, size_t count, off_t at) {
    return fails(file, SETTING(1)) ? -1 : REAL(pwrite)(file, from, count, at);
}

ssize_t pwrite64(int file, const void *from, size_t count, off64_t at) {
    return fails(file, SETTING(1)) ? -1 : REAL(pwrite64)(file, from, count, at);
}

int fsync(int file) { return fails(file, SETTING(2)) ? -1 : REAL(fsync)(file); }

int fdatasync(int file) { return fails(file, SETTING(2)) ? -1 : REAL(fdatasync)(file); }
