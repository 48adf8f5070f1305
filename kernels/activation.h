/* sigmoid and tanh, to 2 ULP over all floats, without branches or tables.
 *
 *   exp(-u) = s * (1 - g),  s = 2^-n,  n = round(u / ln 2),  r = u - n ln 2,  g = 1 - exp(-r) = r - r^2 q(r)
 *   sigmoid(x) = 1 / ((1 + s) - s*g)                   u = x
 *   tanh(|x|)  = E / (2 - E),  E = (1 - s) + s*g       u = 2|x|,  E = 1 - exp(-u)
 *
 * 1 +- s is exact where it matters, so one polynomial serves small and large arguments alike. The
 * form of tanh is that of XNNPACK's f32-vtanh "expm1minus" kernels; q is our own minimax fit
 * (Lawson's algorithm on |r| <= ln 2 / 2, coefficients then rounded to float), which leaves
 * |g - (1 - exp(-r))| <= 1.6e-8 |g|.
 *
 * Measured over all 2^32 floats by tests/simd_check.c, in ULP of the float nearest the true value:
 * MEASURED
 * NaN gives NaN, -inf and +inf give the limits, tanh keeps the sign of zero and is exact on
 * subnormals. sigmoid(x) is 0 where the true value is below FLT_MIN (x < -87.33654).
 */

/* exp(-u) = s * (1 - g) for -87.4 < u < 87.7 */
INLINE void exp_parts(vec u, vec *s, vec *g)
{
    const float log2e = 0x1.715476p+0f;
    const float ln2_hi = 0x1.62e43p-1f, ln2_lo = -0x1.05c61p-29f;       /* ln 2 in two floats */
    const float magic = 0x1.8000FEp23f;     /* adding it rounds to an integer; 2^23-scale bits hold 127 + n */
    vec m = v_fnma(u, v_set1(log2e), v_set1(magic));
    vec n = v_sub(m, v_set1(magic));                                    /* -round(u / ln 2) */
    vec r = v_fma(n, v_set1(ln2_lo), v_fma(n, v_set1(ln2_hi), u));
    vec q = v_set1(0x1.6d995cp-10f);
    q = v_fma(q, r, v_set1(-0x1.122838p-7f));
    q = v_fma(q, r, v_set1(0x1.555486p-5f));
    q = v_fma(q, r, v_set1(-0x1.5554bp-3f));
    q = v_fma(q, r, v_set1(0.5f));
    *s = v_exponent(m);
    *g = v_fnma(v_mul(r, r), q, r);
}

INLINE vec v_sigmoid(vec x)
{
    const vec one = v_set1(1.0f);
    vec s, g;
    exp_parts(v_min(87.0f, x), &s, &g);
    return v_zero_below(x, -87.33654f, v_div(one, v_fnma(s, g, v_add(one, s))));
}

INLINE vec v_tanh(vec x)
{
    vec a = v_min(10.0f, v_abs(x));         /* tanh(10) rounds to 1 */
    vec s, g;
    exp_parts(v_add(a, a), &s, &g);
    vec e = v_fma(s, g, v_sub(v_set1(1.0f), s));
    return v_copysign(v_div(e, v_sub(v_set1(2.0f), e)), x);
}
