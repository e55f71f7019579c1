//===- HostTensor.h - Dense arrays on the host ------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Dense, row major arrays: what goes into and comes out of a model on the host.
// Copies share their numbers; mutableData() copies them first if they are
// shared or borrowed.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_SUPPORT_HOSTTENSOR_H
#define QUENCH_SUPPORT_HOSTTENSOR_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <memory>
#include <string>

namespace quench {

/// Types of elements. I1 is one byte, 0 or 1; MLIR's `index` is I64.
enum class ElementKind : uint8_t {
  I1,
  I8,
  U8,
  I16,
  U16,
  I32,
  U32,
  I64,
  U64,
  F16,
  BF16,
  F32,
  F64
};

/// Bytes of one element.
int64_t elementBytes(ElementKind kind);
/// "f32", "i64", "ui8", ...
llvm::StringRef elementName(ElementKind kind);
inline bool isFloatKind(ElementKind kind) { return kind >= ElementKind::F16; }

class HostTensor {
public:
  /// No tensor at all: false as a condition.
  HostTensor() = default;
  explicit operator bool() const { return memory != nullptr; }

  /// Uninitialized. Errors: a negative dimension, a size that overflows or
  /// cannot be allocated.
  static llvm::Expected<HostTensor> allocate(ElementKind kind,
                                             llvm::ArrayRef<int64_t> shape);
  /// Borrows numbers that `owner` keeps alive (or the caller, if null). `data`
  /// must be aligned to the element.
  static HostTensor view(ElementKind kind, llvm::ArrayRef<int64_t> shape,
                         const void *data, std::shared_ptr<const void> owner);
  /// A copy of `values`. T must be the type of `kind`'s elements. Few numbers:
  /// ends the program when memory is out, as operator new does.
  template <typename T>
  static HostTensor of(ElementKind kind, llvm::ArrayRef<int64_t> shape,
                       llvm::ArrayRef<T> values) {
    HostTensor result = make(kind, shape);
    std::copy(values.begin(), values.end(), result.mutableData<T>());
    return result;
  }
  static HostTensor ofFloats(llvm::ArrayRef<int64_t> shape,
                             llvm::ArrayRef<float> values) {
    return of<float>(ElementKind::F32, shape, values);
  }
  static HostTensor ofInts(llvm::ArrayRef<int64_t> shape,
                           llvm::ArrayRef<int64_t> values) {
    return of<int64_t>(ElementKind::I64, shape, values);
  }
  /// Rank 0, converted to `kind`.
  static HostTensor scalar(ElementKind kind, int64_t value);
  static HostTensor scalar(ElementKind kind, double value);

  ElementKind getKind() const { return kind; }
  llvm::ArrayRef<int64_t> getShape() const { return shape; }
  int64_t getRank() const { return shape.size(); }
  int64_t dim(int64_t i) const { return shape[i]; }
  int64_t getNumElements() const { return count; }
  int64_t getNumBytes() const { return count * elementBytes(kind); }
  /// "f32[1,512,576]"
  std::string describe() const;

  const void *raw() const { return memory.get(); }
  template <typename T> const T *data() const {
    return static_cast<const T *>(memory.get());
  }
  template <typename T> llvm::ArrayRef<T> values() const {
    return {data<T>(), static_cast<size_t>(count)};
  }
  /// Nobody else sees these numbers, and they may be written.
  bool isUnique() const { return owned && memory.use_count() == 1; }
  /// Makes these numbers the tensor's own, by a copy if they are not; an error
  /// if there is no memory for it.
  llvm::Error detach();
  /// For tensors that have their own numbers (of `allocate`, or detached). Few
  /// numbers may also be copied here; where memory is out even for them, the
  /// program ends as by operator new.
  void *mutableRaw();
  template <typename T> T *mutableData() {
    return static_cast<T *>(mutableRaw());
  }

  /// The same numbers in another shape of as many elements.
  HostTensor reshaped(llvm::ArrayRef<int64_t> newShape) const;
  /// The same bits as elements of a kind of equal width.
  HostTensor bitcast(ElementKind newKind) const;
  /// Converted element by element; floats to integers cut off and saturate.
  llvm::Expected<HostTensor> convertTo(ElementKind newKind) const;

  /// One element as a number, for messages, tests and scalars.
  double at(int64_t index) const;
  int64_t intAt(int64_t index) const;

  /// NumPy's .npy format, versions 1 to 3, C order, little endian. bf16 is
  /// stored as `V2`. Errors name the file and what was found.
  static llvm::Expected<HostTensor> loadNpy(llvm::StringRef path);
  /// The same from memory; `name` is for messages.
  static llvm::Expected<HostTensor> parseNpy(llvm::StringRef bytes,
                                             llvm::StringRef name);
  llvm::Error saveNpy(llvm::StringRef path) const;

private:
  static HostTensor make(ElementKind kind, llvm::ArrayRef<int64_t> shape);

  ElementKind kind = ElementKind::F32;
  bool owned = false;
  int64_t count = 0;
  llvm::SmallVector<int64_t, 4> shape;
  std::shared_ptr<void> memory;
};

/// Elements of `shape`, or an error: negative dimension or overflow of the
/// bytes of `elementSize` each.
llvm::Expected<int64_t> countElements(llvm::ArrayRef<int64_t> shape,
                                      int64_t elementSize);

} // namespace quench

#endif // QUENCH_SUPPORT_HOSTTENSOR_H
