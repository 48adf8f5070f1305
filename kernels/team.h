/* Threads for one run: the caller and its helpers, and the barrier between them.
 *
 * Helpers are made when first asked for and kept. One without work spins for some tens of
 * microseconds, in case the next step follows at once, and then sleeps until it is wanted. They
 * block all signals, take no part in a fork (a child makes its own), and are joined at exit.
 */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <stddef.h>

typedef struct fr_team fr_team;

/* Calls work(arg, team, member) in up to `threads` threads at once, the caller being member 0,
 * and returns when all have returned. Fewer take part only if no more threads can be made. */
void fr_team_run(size_t threads, void (*work)(void *arg, fr_team *team, size_t member), void *arg);

/* How many take part. */
size_t fr_team_size(const fr_team *team);

/* Returns when every member of the team has come here. What any of them wrote before, all see after. */
void fr_team_barrier(fr_team *team);

#endif
