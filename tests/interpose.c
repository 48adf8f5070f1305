/* Preloaded into a child by test_step_promises.py: counts what a step promises not to call, sets the
 * floating-point mode, and forbids system calls. Linux and glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/seccomp.h>
#include <semaphore.h>

/* Calls are counted while `counting` is set. */
int counting;
unsigned long allocations, locks;

#define COUNT(which) ((void)(counting && __atomic_add_fetch(&(which), 1, __ATOMIC_RELAXED)))

/* dlsym allocates, so the allocators are had by glibc's other names for them. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

void *malloc(size_t size) { COUNT(allocations); return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { COUNT(allocations); return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { COUNT(allocations); return __libc_realloc(block, size); }
void *memalign(size_t alignment, size_t size) { COUNT(allocations); return __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { COUNT(allocations); return __libc_memalign(alignment, size); }
void free(void *block) { COUNT(allocations); __libc_free(block); }

int posix_memalign(void **block, size_t alignment, size_t size)
{
    COUNT(allocations);
    *block = __libc_memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}

void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    COUNT(allocations);
    return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return mmap(address, size, protection, flags, file, offset);
}

#define LOCK(name, type)                                        \
    int name(type *lock)                                        \
    {                                                           \
        static int (*next)(type *);                             \
        if (!next)                                              \
            next = (int (*)(type *))dlsym(RTLD_NEXT, #name);    \
        COUNT(locks);                                           \
        return next(lock);                                      \
    }
LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCK(sem_wait, sem_t)
LOCK(sem_trywait, sem_t)

void nothing(void) {}

/* From now on any system call but read, write and exit kills this thread's process. 0 if so. */
int forbid_system_calls(void) { return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); }

/* exit_group, which _exit calls, is forbidden too */
void exit_thread(int status) { syscall(SYS_exit, status); }

#if defined(__SSE2__)
#include <xmmintrin.h>
unsigned get_mode(void) { return _mm_getcsr(); }
void set_mode(unsigned mode) { _mm_setcsr(mode); }
#endif
