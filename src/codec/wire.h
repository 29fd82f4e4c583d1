/* The bytes of a message. Sender and receiver run the same build on the same machine: numbers are in its byte order.
 *
 * Builtin objects: one value, or MPF_OP_NAMES and one value.
 *
 *     value    = op payload
 *     op       = 0x80..0xff: the int (op - 0x80 + MPF_INT_FIRST), no payload
 *              | one of enum mpf_op, for those from MPF_OP_ASCII8 on possibly with MPF_OP_SHARED: a later MPF_OP_REF
 *                names it by its distance in bytes from the start of the outermost value
 *
 * Pickle (the only value of its message):
 *
 *     0         1        4             8               16
 *     +---------+--------+-------------+---------------+--------···--+--------------------+--- pad ---+-----···----
 *     |OP_PICKLE| zeros  | buffers u32 | pickle len u64| pickle      | u64 for each buffer| to 64     | buffer 0 ...
 *     +---------+--------+-------------+---------------+--------···--+--------------------+-----------+-----···----
 *                                                       (length << 1 | readonly)     each buffer starts at a multiple of 64
 *
 * Foreign (what a replaced ForkingPickler.dumps returned): MPF_OP_FOREIGN and those bytes. */
#ifndef MPF_CODEC_WIRE_H
#define MPF_CODEC_WIRE_H

#define MPF_OP_SHARED 0x40
#define MPF_INT_FIRST (-16)
#define MPF_INT_LAST (MPF_INT_FIRST + 0x7f)

/* Containers nested deeper than this go to pickle, which has limits and a RecursionError of its own. */
#define MPF_WIRE_DEPTH 200

enum mpf_op {
    MPF_OP_NONE = 0,
    MPF_OP_FALSE,
    MPF_OP_TRUE,
    MPF_OP_INT16,
    MPF_OP_INT32,
    MPF_OP_INT64,
    MPF_OP_BIGINT,      /* u64 length, two's complement, least significant byte first */
    MPF_OP_FLOAT,
    MPF_OP_REF,         /* u64 distance */
    MPF_OP_NAME,        /* a function or class: u8, u8: lengths of module and name; both in ASCII */

    MPF_OP_NAMES = 0xc, /* first byte only */
    MPF_OP_PICKLE,      /* first byte only */
    MPF_OP_FOREIGN,     /* first byte only */

    MPF_OP_ASCII8 = 0x10, /* ..8: u8 length or count; the others: u64 */
    MPF_OP_ASCII,
    MPF_OP_LATIN1,
    MPF_OP_UCS2,          /* count of characters */
    MPF_OP_UCS4,
    MPF_OP_BYTES8,
    MPF_OP_BYTES,
    MPF_OP_BYTEARRAY,
    MPF_OP_TUPLE8,
    MPF_OP_TUPLE,
    MPF_OP_LIST8,
    MPF_OP_LIST,
    MPF_OP_DICT8,         /* count of pairs; key, value, key, value ... */
    MPF_OP_DICT,
    MPF_OP_SET,
    MPF_OP_FROZENSET,
};

#endif
