/* Sums and extremes of rows of adjacent floats: an order of additions that depends on their number alone. */
#ifndef FR_ROWS_H
#define FR_ROWS_H

#include <stddef.h>

typedef float fr_four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int fr_four_bits __attribute__((vector_size(16), may_alias));

enum { FR_SUMMED = 512 };   /* floats that are summed in floats; such sums are added in double */

static inline fr_four fr_load4(const float *p) { return *(const fr_four *)p; }

static inline float fr_sum_some(const float *x, size_t n)
{
    fr_four a = {0}, b = {0};
    size_t i = 0;
    float sum;
    for (; i + 8 <= n; i += 8)
        a += fr_load4(x + i), b += fr_load4(x + i + 4);
    a += b;
    sum = (a[0] + a[2]) + (a[1] + a[3]);
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

static inline float fr_sum(const float *x, size_t n)
{
    double sum = 0;
    if (n <= FR_SUMMED)
        return fr_sum_some(x, n);
    for (size_t i = 0; i < n; i += FR_SUMMED)
        sum += fr_sum_some(x + i, n - i < FR_SUMMED ? n - i : FR_SUMMED);
    return (float)sum;
}

/* The greatest, or with sign = -1 the least; NaN where there is one. n >= 1 */
static inline float fr_extreme(const float *x, size_t n, float sign)
{
    float most = x[0];
    size_t i = 0;
    if (n >= 8) {
        fr_four a = fr_load4(x);
        for (; i + 4 <= n; i += 4) {
            fr_four b = fr_load4(x + i);
            fr_four_bits take = (b * sign > a * sign) | (b != b);
            a = (fr_four)((take & (fr_four_bits)b) | (~take & (fr_four_bits)a));
        }
        most = a[0];
        for (int lane = 1; lane < 4; lane++)
            most = a[lane] * sign > most * sign || a[lane] != a[lane] ? a[lane] : most;
    }
    for (; i < n; i++)
        most = x[i] * sign > most * sign || x[i] != x[i] ? x[i] : most;
    return most;
}

/* Of each of `rows` rows of n floats; what = 0: the sum, 1: the greatest, -1: the least */
static inline void fr_reduce_rows(int what, const float *x, size_t rows, size_t n, float *out)
{
    for (size_t row = 0; row < rows; row++, x += n)
        out[row] = what ? fr_extreme(x, n, (float)what) : fr_sum(x, n);
}

#endif
