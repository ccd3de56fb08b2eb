"""A check of Ed25519 public keys that the libraries for signatures lack (RFC 8032, section 5.1)."""

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int, int, int]
"""Extended homogeneous coordinates: X, Y, Z, T."""
IDENTITY: Point = (0, 1, 1, 0)


def is_valid_public_key(encoded: bytes) -> bool:
    """Reports whether signatures of a key cannot be forged without its private half.

    The point must be on the curve, canonically encoded, not of small order, and in the subgroup of prime order.
    """
    point = _decompress(encoded)
    return point is not None and not _is_identity(point) and _is_identity(_multiply(ORDER, point))


def _decompress(encoded: bytes) -> Point | None:
    if len(encoded) != 32:
        return None
    number = int.from_bytes(encoded, "little")
    y, sign = number & (2**255 - 1), number >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def _add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    return (f - e) * (h - g) % P, (h + g) * (f + e) % P, (h - g) * (h + g) % P, (f - e) * (f + e) % P


def _multiply(factor: int, point: Point) -> Point:
    result = IDENTITY
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result


def _is_identity(point: Point) -> bool:
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0
