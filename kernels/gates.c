/* Gate passes of the BLAS engine: gates_body.h, once for float and once for double. */
#include "gates.h"

#include <math.h>

#define REAL float
#define NAME(n) n##_f32
#define TANH tanhf
#define EXP expf
#include "gates_body.h"

#define REAL double
#define NAME(n) n##_f64
#define TANH tanh
#define EXP exp
#include "gates_body.h"
