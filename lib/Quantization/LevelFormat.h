//===- LevelFormat.h - Formats of a table of levels -------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A format whose codes are indices into a table of 16, 64 or 256 levels: w =
// scale * level[code]. What the named formats differ in is a LevelSpec.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_LEVELFORMAT_H
#define QUENCH_LIB_QUANTIZATION_LEVELFORMAT_H

#include "quench/Quantization/Format.h"
#include "quench/Quantization/Layout.h"
#include <optional>

namespace quench {

struct LevelSpec {
  std::string text; // Format::spec()
  /// The level of each code: 16, 64 or 256. A level that appears twice (-0)
  /// has the code of its first place. Empty: a table of 16 halves is fitted to
  /// each weight and stored in front of it.
  std::vector<float> levels;
  /// Ties go to the even code; else to the lower level.
  bool tiesToEven = false;
  int64_t group = 0;
  /// A scale for the whole weight instead of those of groups or rows.
  bool tensor = false;
  /// The weight has a scale too if those of groups are E4M3 or E3M5.
  ScaleKind scaleKind = ScaleKind::Half;
  /// Levels are whole multiples of it, and bytes if `bias` is added to the
  /// factors; 0: they are not.
  float unit = 0;
  int bias = 0;
  /// The codes are small floats, decoded by arithmetic.
  std::optional<Minifloat> shape;
};

class LevelFormat : public Format {
public:
  explicit LevelFormat(LevelSpec spec);

  std::string spec() const override { return s.text; }
  int64_t group() const override { return s.group; }
  bool hasScale() const override { return !s.tensor; }
  ScaleKind scaleKind() const override { return s.scaleKind; }
  bool hasTensorScale() const override;
  unsigned codeBits() const override { return width; }
  const BlockLayout &layout() const override { return blockLayout; }
  int64_t tableBytes() const override { return isLearned ? 32 : 0; }
  bool isInteger() const override { return s.unit != 0; }
  int64_t bias() const override { return s.bias; }
  float unit() const override { return s.unit != 0 ? s.unit : 1.0f; }

  std::unique_ptr<Format> bind(llvm::ArrayRef<uint8_t> table) const override;
  std::vector<uint8_t> fitTable(const float *values, int64_t rows, int64_t cols,
                                const FitOptions &options) const override;
  float fitTensor(const float *values, int64_t n,
                  const FitOptions &options) const override;
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override;
  void nearestAll(const float *values, int64_t count, GroupParams params,
                  uint32_t *codes) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;
  void
  decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                  llvm::SmallVectorImpl<FloatPlane> &planes) const override;

private:
  static constexpr int64_t kChunk = 64;

  void setLevels();
  /// The ranks of the levels nearest to values[i] / scale, n <= kChunk of them;
  /// that of NaN is 0.
  void ranksOf(const float *values, int64_t n, float scale,
               int32_t *ranks) const;
  float scaleFor(GroupParams params) const {
    return s.tensor ? 1.0f : scaleOf(params);
  }
  /// The E8M0 scale with which the largest level is still finite.
  int mostPower() const { return 254 - std::ilogb(range); }
  GroupParams plainFit(float magnitude) const;

  LevelSpec s;
  bool isLearned;
  unsigned width;
  /// What the largest magnitude of a group is mapped to.
  float range = 1;
  /// Distinct levels in ascending order, their codes, and the largest ratio
  /// that belongs to each but the last.
  std::vector<float> sorted, limits;
  std::vector<uint8_t> codes;
  std::vector<uint8_t> bytes;  // by code, for integer planes
  std::vector<float> factors;  // by code, level / unit()
  std::vector<uint8_t> halves; // by code, E5M2 bytes of the level; or empty
  BlockLayout blockLayout;
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_LEVELFORMAT_H
