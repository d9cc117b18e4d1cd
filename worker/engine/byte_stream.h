#pragma once

// ByteWriter and ByteReader: the form of plans and recordings: little-endian, every array preceded
// by its 32-bit count.

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deltaserve {

// Appends to bytes that someone else owns. One thread.
class ByteWriter {
 public:
  explicit ByteWriter(std::vector<uint8_t>* out) : out_(*out) {}

  void U8(uint8_t value) { out_.push_back(value); }
  void U32(uint32_t value) { Bytes(value, 4); }
  void U64(uint64_t value) { Bytes(value, 8); }
  void I32(int32_t value) { U32(static_cast<uint32_t>(value)); }
  void I64(int64_t value) { U64(static_cast<uint64_t>(value)); }
  void F32(float value) { U32(std::bit_cast<uint32_t>(value)); }
  void Count(size_t value) { U32(static_cast<uint32_t>(value)); }
  void Ints(const std::vector<int32_t>& values) {
    Count(values.size());
    for (const int32_t value : values) I32(value);
  }
  void Text(std::string_view text) {
    Count(text.size());
    out_.insert(out_.end(), text.begin(), text.end());
  }

 private:
  void Bytes(uint64_t value, int count) {
    for (int i = 0; i < count; ++i) out_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }

  std::vector<uint8_t>& out_;
};

// Reads bytes that someone else owns. Reads past the end give zeros and set `failed`. One thread.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Bytes(1)); }
  uint32_t U32() { return static_cast<uint32_t>(Bytes(4)); }
  uint64_t U64() { return Bytes(8); }
  int32_t I32() { return static_cast<int32_t>(U32()); }
  int64_t I64() { return static_cast<int64_t>(U64()); }
  float F32() { return std::bit_cast<float>(U32()); }

  // A count of elements of at least `least_bytes` each: never more than what is left can hold, so
  // that damage cannot ask for much memory.
  size_t Count(size_t least_bytes) {
    const size_t count = U32();
    if (count <= bytes_.size() / least_bytes) return count;
    Fail();
    return 0;
  }

  std::vector<int32_t> Ints() {
    std::vector<int32_t> values(Count(4));
    for (int32_t& value : values) value = I32();
    return values;
  }

  std::string Text() {
    const size_t count = Count(1);
    std::string text(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(count));
    bytes_ = bytes_.subspan(count);
    return text;
  }

  // An enumerator of [first, last].
  template <typename Enum>
  Enum Kind(Enum first, Enum last) {
    const uint8_t value = U8();
    if (value < static_cast<uint8_t>(first) || value > static_cast<uint8_t>(last)) {
      Fail();
      return first;
    }
    return static_cast<Enum>(value);
  }

  void Fail() {
    failed_ = true;
    bytes_ = {};
  }
  bool failed() const { return failed_; }
  bool at_end() const { return bytes_.empty(); }
  std::span<const uint8_t> left() const { return bytes_; }

 private:
  uint64_t Bytes(size_t count) {
    if (bytes_.size() < count) {
      Fail();
      return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value |= uint64_t{bytes_[i]} << (8 * i);
    bytes_ = bytes_.subspan(count);
    return value;
  }

  std::span<const uint8_t> bytes_;
  bool failed_ = false;
};

}  // namespace deltaserve
