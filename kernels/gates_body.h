/* Body of gates.c, included once per type with
 *   REAL      float or double
 *   NAME(n)   n with the type's suffix
 *   TANH, EXP the type's libm functions
 */

static inline REAL NAME(sigmoid)(REAL x) { return 1 / (1 + EXP(-x)); }

/* NaN stays NaN, as in torch. */
static inline REAL NAME(relu)(REAL x) { return x < 0 ? 0 : x; }

void NAME(fr_gates_lstm)(size_t hidden, REAL *gates, REAL *c_inout, REAL *h)
{
    REAL *i = gates, *f = i + hidden, *g = f + hidden, *o = g + hidden;
    for (size_t u = 0; u < hidden; u++) {
        i[u] = NAME(sigmoid)(i[u]);
        f[u] = NAME(sigmoid)(f[u]);
        g[u] = TANH(g[u]);
        o[u] = NAME(sigmoid)(o[u]);
        c_inout[u] = f[u] * c_inout[u] + i[u] * g[u];
        h[u] = o[u] * TANH(c_inout[u]);
    }
}

void NAME(fr_gates_gru)(size_t hidden, REAL *gates, const REAL *recurrent, REAL *h_inout)
{
    REAL *r = gates, *z = r + hidden, *n = z + hidden;
    const REAL *hr = recurrent, *hz = hr + hidden, *hn = hz + hidden;
    for (size_t u = 0; u < hidden; u++) {
        r[u] = NAME(sigmoid)(r[u] + hr[u]);
        z[u] = NAME(sigmoid)(z[u] + hz[u]);
        n[u] = TANH(n[u] + r[u] * hn[u]);
        h_inout[u] = n[u] + z[u] * (h_inout[u] - n[u]);
    }
}

void NAME(fr_gates_gru_reset)(size_t hidden, REAL *gates, const REAL *h, REAL *reset_h)
{
    REAL *r = gates, *z = r + hidden;
    for (size_t u = 0; u < hidden; u++) {
        r[u] = NAME(sigmoid)(r[u]);
        z[u] = NAME(sigmoid)(z[u]);
        reset_h[u] = r[u] * h[u];
    }
}

void NAME(fr_gates_gru_update)(size_t hidden, REAL *gates, REAL *h_inout)
{
    const REAL *z = gates + hidden;
    REAL *n = gates + 2 * hidden;
    for (size_t u = 0; u < hidden; u++) {
        n[u] = TANH(n[u]);
        h_inout[u] = n[u] + z[u] * (h_inout[u] - n[u]);
    }
}

void NAME(fr_gates_rnn)(size_t hidden, int relu, REAL *gates, REAL *h)
{
    for (size_t u = 0; u < hidden; u++)
        h[u] = gates[u] = relu ? NAME(relu)(gates[u]) : TANH(gates[u]);
}

#undef REAL
#undef NAME
#undef TANH
#undef EXP
