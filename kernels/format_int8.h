/* Weights as int8, a scale a row; see encode.h for what they are multiplied by. A line is 4 k's. How the bytes of a
 * word stand, and what is multiplied with what, depends on what the instruction set multiplies. */

#ifdef AVX512_VNNI
#include "int8_bytes.h"
#else
#include "int8_pairs.h"
#endif

#define FORMAT(name) name##_int8
#define FORMAT_ITEM 1
#define FORMAT_FLIP INT8_FLIP
#define FORMAT_SWAP INT8_SWAP
#define FORMAT_OFFSET 128u      /* what flipping its highest bit adds to a byte */
#define FORMAT_HEADER 2
#define FORMAT_CHAIN 1024       /* 4096 k's: a sum is below 2^31 */
#define FORMAT_ROWS INT8_ROWS
#define FORMAT_TILES INT8_TILES
#define FORMAT_UNROLL UNROLL_INTEGERS
#define FORMAT_INPUT 8

typedef vec_code FORMAT(code);

INLINE vec_code FORMAT(decode)(const row_code *codes, size_t i) { return spread_code(codes + i); }

INLINE vec FORMAT(add)(vec from, FORMAT(sum) sum, const char *header, vec_code code)
{
    return add_codes(from, FORMAT(total)(sum), header, code);
}

#include "encode.h"
#include "tile.h"
