/* One user at a time, without waiting: a byte that says whether somebody is in. */
#ifndef FASTRNN_CLAIM_H
#define FASTRNN_CLAIM_H

/* 1 if it was free and is now the caller's; whatever was written before its release is seen. */
static inline int fr_claim(char *busy) { return !__atomic_test_and_set(busy, __ATOMIC_ACQUIRE); }
static inline void fr_release(char *busy) { __atomic_clear(busy, __ATOMIC_RELEASE); }

#endif
