/* sigmoid and tanh, to about 2 ULP over all floats, without branches or tables. Both as quotients, so that
 * a cell can join the divisions of a product.
 *
 *   exp(-u) = s (1 - g),  s = 2^-n,  n = round(u / ln 2),  r = u - n ln 2,  g = 1 - exp(-r) = r - r^2 q(r)
 *   sigmoid(x) = 1 / (1 + exp(-x))
 *   tanh(|x|)  = (1 - exp(-2|x|)) / (1 + exp(-2|x|))
 *   1 + exp(-u) = (1 + s) - s g      1 - exp(-u) = (1 - s) + s g
 *
 * 1 + s and 1 - s are exact where it matters, so each line rounds once, and one polynomial serves
 * tanh of small and large arguments alike. The form is akin to that of XNNPACK's f32-vtanh "expm1minus"
 * kernels. q is our own minimax fit (Lawson's algorithm on |r| <= ln 2 / 2, coefficients then rounded to
 * float), which leaves an error of at most 1.6e-8 |g|.
 *
 * Measured over all 2^32 floats by tests/simd_check.c, in ULP of the float nearest the true value: sigmoid
 * 2.44 (for -17 < x < -16, where 1 + s is not exact; elsewhere 1.95), tanh 1.95; generic 2.44 and 2.03.
 * NaN gives NaN, infinities their limits; tanh keeps the sign of zero and is exact on subnormals.
 */

/* 1 + exp(-u), and 1 - exp(-u) by *minus, for -88.37 <= u <= 87; beyond, garbage */
INLINE vec one_plus_exp(vec u, vec *minus)
{
    const float log2e = 0x1.715476p+0f;
    const float ln2_hi = 0x1.62e4p-1f, ln2_lo = 0x1.7f7d1cp-20f;    /* ln 2 in two floats; n * ln2_hi is exact */
    const float magic = 0x1.8000FEp23f;     /* adding it rounds to an integer n; the low bits then hold 127 + n */
    vec one = v_set1(1.0f);
    vec m = v_fnma(u, v_set1(log2e), v_set1(magic));
    vec n = v_sub(m, v_set1(magic));                                /* -round(u / ln 2) */
    vec r = v_fma(n, v_set1(ln2_lo), v_fma(n, v_set1(ln2_hi), u));
    vec q = v_set1(0x1.6d995cp-10f);
    q = v_fma(q, r, v_set1(-0x1.122838p-7f));
    q = v_fma(q, r, v_set1(0x1.555486p-5f));
    q = v_fma(q, r, v_set1(-0x1.5554bp-3f));
    q = v_fma(q, r, v_set1(0.5f));
    vec g = v_fnma(v_mul(r, r), q, r), s = v_exponent(m);
    *minus = v_fma(s, g, v_sub(one, s));
    return v_fnma(s, g, v_add(one, s));
}

/* D of sigmoid(x) = 1 / D. From x = -88.37 down, where 1 / D is below FLT_MIN, infinity. */
INLINE vec sigmoid_divisor(vec x)
{
    vec minus;
    return v_infinite_below(x, -88.37f, one_plus_exp(v_min(87.0f, x), &minus));
}

/* E, with the sign of x, and D of tanh(x) = E / D */
INLINE vec tanh_dividend(vec x, vec *divisor)
{
    vec e, a = v_min(10.0f, v_abs(x));      /* tanh(10) rounds to 1 */
    *divisor = one_plus_exp(v_add(a, a), &e);
    return v_copysign(e, x);
}

INLINE vec v_sigmoid(vec x) { return v_div(v_set1(1.0f), sigmoid_divisor(x)); }

/* erf, to 1.0 ULP with FMA and 1.26 without (measured over 17 million floats): a polynomial in x^2 up to 0.921875,
 * beyond 1 - exp(-p(|x|)); both fits are those of ONNX Runtime's MLAS (erf.cpp, MIT). 3.925 and beyond round to 1. */
INLINE vec v_erf(vec x)
{
    vec big, a = v_min(3.925f, v_abs(x)), square = v_mul(a, a);
    vec p = v_set1(-5.99104969e-4f), q = v_set1(1.72948930e-5f);
    p = v_fma(p, square, v_set1(4.99339588e-3f));
    p = v_fma(p, square, v_set1(-2.67667342e-2f));
    p = v_fma(p, square, v_set1(1.12818025e-1f));
    p = v_fma(p, square, v_set1(-3.76124859e-1f));
    p = v_fma(p, square, v_set1(1.28379151e-1f));
    q = v_fma(q, a, v_set1(-3.83208680e-4f));
    q = v_fma(q, a, v_set1(3.88393435e-3f));
    q = v_fma(q, a, v_set1(-2.42545605e-2f));
    q = v_fma(q, a, v_set1(1.06777847e-1f));
    q = v_fma(q, a, v_set1(6.34846687e-1f));
    q = v_fma(q, a, v_set1(1.28717512e-1f));
    one_plus_exp(v_fma(q, a, a), &big);
    return v_copysign(v_above(a, 0.921875f, big, v_fma(p, a, a)), x);
}

/* x times the part of a normal distribution below x, in torch's order of operations */
INLINE vec v_gelu(vec x)
{
    vec below = v_add(v_set1(1.0f), v_erf(v_mul(x, v_set1(0x1.6a09e6p-1f))));
    return v_mul(v_mul(v_set1(0.5f), x), below);
}

INLINE vec v_tanh(vec x)
{
    vec divisor, e = tanh_dividend(x, &divisor);
    return v_div(e, divisor);
}
