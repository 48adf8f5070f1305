/* Threads for one run: the caller and its helpers, who share out the blocks of one stage after another.
 *
 * Helpers come and go: the caller does whatever nobody else has claimed, and waits only for blocks that a helper is in
 * the middle of. One that is late, asleep or without a core costs nothing. Helpers are made when first asked for and
 * kept. One without work spins for some tens of microseconds, in case the next stage follows at once, and then sleeps.
 * They block all signals, take no part in a fork (a child makes its own), and are joined at exit.
 */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <stddef.h>

#define FR_TEAM_MOST 256    /* threads */

typedef struct fr_team fr_team;

/* Does blocks [first, last) of a job. Nobody else is `member` at the same time. */
typedef void fr_blocks_fn(const void *job, size_t member, size_t first, size_t last);

/* A team of up to `threads`, at most FR_TEAM_MOST, until fr_team_leave; the caller is member 0, and all members are
 * below `threads`. NULL, which is a team too, is the caller alone. */
static inline fr_team *fr_team_enter(size_t threads);
static inline void fr_team_leave(fr_team *team);

/* do_blocks over [0, blocks), in pieces, by whoever is there. What the caller wrote before, all see; what they wrote,
 * the caller sees when it returns. */
static inline void fr_team_share(fr_team *team, size_t blocks, fr_blocks_fn *do_blocks, const void *job);

/* The same where there are helpers; alone, a small step has no time for calls. */
fr_team *fr_team_gather(size_t threads);
void fr_team_part(fr_team *team);
void fr_team_share_out(fr_team *team, size_t blocks, fr_blocks_fn *do_blocks, const void *job);

static inline fr_team *fr_team_enter(size_t threads) { return threads > 1 ? fr_team_gather(threads) : NULL; }

static inline void fr_team_leave(fr_team *team)
{
    if (team)
        fr_team_part(team);
}

static inline void fr_team_share(fr_team *team, size_t blocks, fr_blocks_fn *do_blocks, const void *job)
{
    if (team)
        fr_team_share_out(team, blocks, do_blocks, job);
    else
        do_blocks(job, 0, 0, blocks);
}

#endif
