/** CRC-32 of IEEE 802.3, which can be continued from a finished one, as zlib.crc32(X, C) does. */

const TABLE = new Uint32Array(256).map((_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

export function crc32(bytes, start = 0) {
  let crc = ~start;
  for (let index = 0; index < bytes.length; index += 1) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[index]) & 0xff];
  return ~crc >>> 0;
}
