//===- Layout.h - Layouts of packed blocks ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What formats share to describe their blocks: the layout of one step of codes
// becomes the layout of a block with its groups, scales and zero points.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_LAYOUT_H
#define QUENCH_QUANTIZATION_LAYOUT_H

#include "quench/Quantization/Format.h"

namespace quench {

/// The largest group that a format accepts; longer ones are better served by a
/// scale for each row.
constexpr int64_t kMaxGroup = 16384;

/// The codes of `columns` columns of 16 rows.
struct StepLayout {
  int64_t columns = 32;
  int64_t bytes = 0;
  /// Interleaving unit of the codes.
  int64_t unit = 64;
  int64_t sharedPasses = 1;
  std::vector<Component> components; // offsets from the start of the step
  std::vector<uint16_t> xOrder;      // within the step; empty: identity
  int64_t codeStride = 1;
  /// Several groups may share a step; each takes a power of two times this.
  int64_t groupUnit = 4;
};

/// The layout of a block:
///   group 0, or longer rows of one scale: one step;
///   groups that fit several times into a step: one step, then the scales, then
///     the zero points of its groups;
///   other groups: the steps of one group, then its scale, then its zero point.
///     Where a zero point would leave half a line empty, two short groups share
///     a block and the zero points of both follow the first scale; so do the
///     scales of two groups if they are bytes, behind the codes of both.
/// A zero point takes 0 (none), 1 or 2 bytes, a scale 1 or 2.
BlockLayout makeBlockLayout(const StepLayout &step, int64_t group,
                            unsigned zeroBytes, unsigned scaleBytes = 2);

/// A step of 32 columns of `bits`-bit codes (1..8), 64 * bits bytes. The code
/// is cut into parts of 8, 4, 2 and 1 bits, widest first, the first part
/// holding the low bits. Lane 4 * row + column % 4 of the lines of a part holds
/// 8 / width quads: quad q of the step at bit q % (8 / width) * width of line
/// q / (8 / width).
StepLayout bitStepLayout(unsigned bits);

/// Decodes such a step: quad q's codes as unsigned bytes, shifted left by
/// `up` bits (0 or 1). With `inPlace`, codes of one part stay where they lie.
void decodeBitStep(RegisterBuilder &builder, int64_t offset, unsigned bits,
                   unsigned up, bool inPlace,
                   llvm::SmallVectorImpl<Plane> &planes);

/// The bytes at `places` (64) of `lines`, registers of 64 bytes one after the
/// other: a permutation for each line that is needed, less one where there are
/// two or more.
Reg permuteLines(RegisterBuilder &builder, llvm::ArrayRef<Reg> lines,
                 llvm::ArrayRef<int64_t> places);

/// Values of column `column` of each step position that comes from `planes`:
/// the default of Format::decodeFloatStep.
void planesToFloats(RegisterBuilder &builder, llvm::ArrayRef<Plane> planes,
                    float bias, llvm::SmallVectorImpl<FloatPlane> &floats);

/// Magnitudes of a group, for fitting. NaN counts as 0.
float maxMagnitude(const float *values, int64_t n);
float meanMagnitude(const float *values, int64_t n);

} // namespace quench

#endif // QUENCH_QUANTIZATION_LAYOUT_H
