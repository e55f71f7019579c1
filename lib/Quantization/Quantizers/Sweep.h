//===- Sweep.h - Coding rows with feedback ----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Some rows of a weight while they are coded. E = W - W^ are the errors so
// far. A sweep goes over all blocks once; each is coded towards
// w + sum over the other places j of E_j times the feedback from j.
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_LIB_QUANTIZATION_QUANTIZERS_SWEEP_H
#define QUENCH_LIB_QUANTIZATION_QUANTIZERS_SWEEP_H

#include "Quantizers/Coupling.h"
#include "quench/Quantization/Quantizer.h"

namespace quench {

/// How rows are coded.
struct SweepOptions {
  bool search = false;       // searched scales, by weighted errors
  bool staticGroups = false; // scales of groups from the weights themselves
  bool stochastic = false;
  uint64_t seed = 0;
  bool tileMetric = false; // code tiles in the metric of their moments
  float scale = 1;         // times every fitted scale
};

/// What stochastic rounding needs of a scalar format: its levels at scale 1
/// and zero point 0, in order, with their codes.
struct LevelTable {
  explicit LevelTable(const Format &format);
  std::vector<std::pair<float, uint32_t>> levels;
};

class RowSweep {
public:
  /// Rows [first, first + rows) of `weight` (a row has cols numbers), divided
  /// by `tensorScale`; `first` begins a tile. Numbers that are not finite
  /// become 0. `format` is bound to its table.
  RowSweep(const Format &format, const float *weight, int64_t first,
           int64_t rows, int64_t cols, float tensorScale,
           const SweepOptions &options, const LevelTable *levels);
  /// What other rows of the weight miss is fed to these ones from now on.
  /// `whole`: these tell theirs by publish(), not batch by batch.
  void couple(RowCoupling &others, bool whole);
  /// Tells the errors of all columns to the rows that come after. `feedback` is
  /// that of encode().
  void publish(const Feedback &feedback);

  /// LDLQ: fits the scales and gives every block a code. Rounds to nearest
  /// where the feedback is empty.
  void encode(const Feedback &feedback);
  /// A pass with full feedback. With `refit`, the scale (and a zero point that
  /// is a real number) of each group gets its best value for the codes at hand.
  /// With `recode`, each block gets the code nearest to its best value where
  /// that lowers the loss of its row (of its tile).
  void descend(const Feedback &feedback, bool refit, bool recode);

  /// What a factor 1 + x for all values of these rows changes: the loss falls
  /// by 2 x gain - x^2 cost. For the scale of a whole weight.
  struct ScaleSums {
    double gain = 0, cost = 0;
  };
  ScaleSums scaleSums(const Feedback &feedback);

  /// The codes and params go to their rows of `encoded`.
  void store(EncodedRows &encoded) const;

private:
  /// Where a block is coded: the batch of a sweep, and the row or the first row
  /// of a tile.
  struct Spot {
    const Feedback &feedback;
    int64_t batchIndex;
    int64_t row;
    const CodeBatch &batch() const { return feedback.plan.batches[batchIndex]; }
  };
  float *target(const Spot &spot, int64_t place) {
    const CodeBatch &batch = spot.batch();
    return targets.data() + spot.row * batch.width + place - batch.place;
  }
  float *at(std::vector<float> &matrix, int64_t row, int64_t place) {
    return matrix.data() + row * cols + place;
  }
  GroupParams &paramsOf(int64_t row, int64_t group) {
    return params[row * groups + group];
  }

  void sweep(const Feedback &feedback, bool descent, bool refit, bool recode);
  void reorder(const CodePlan &plan);
  void startBatch(const Feedback &feedback, int64_t batch);
  void receive(const CodeBatch &batch);
  void receive(const Spot &spot, int64_t height, int64_t place, int64_t width);
  void tell(int64_t row, int64_t count, int64_t place, int64_t width);
  void push(const Spot &spot, int64_t fromPlace, const CodeBlock &block,
            const float *changes);

  // Scales (SweepFit.cpp).
  void fitRows(const Feedback &feedback);
  void fitWholeGroup(const Spot &spot, int64_t block);
  GroupParams fitGroup(const float *values, const float *weights,
                       int64_t n) const;
  double groupError(const float *values, const float *weights, int64_t n,
                    GroupParams params) const;
  void refitGroup(const Spot &spot, int64_t block);
  void refitRows(const Feedback &feedback);
  /// Of a row: A and c of bestParams.
  struct RowSums {
    double a[3] = {}, c[2] = {};
  };
  std::vector<RowSums> rowSums(const Feedback &feedback,
                               std::vector<float> &level);
  void decodeAll(const CodePlan &plan, bool levelsOnly,
                 std::vector<float> &values);
  bool bestParams(const double a[3], const double c[2],
                  GroupParams &params) const;
  void decodePlaces(const CodePlan &plan, int64_t row, bool levelsOnly,
                    int64_t firstBlock, int64_t endBlock, float *values);

  // Codes.
  void aimAtTarget(const Spot &spot, const CodeBlock &block, int64_t height);
  void aimDownhill(const Spot &spot, const CodeBlock &block, int64_t height);
  std::vector<float> blockMetric(const Spot &spot,
                                 const CodeBlock &block) const;
  bool codeBlock(const Spot &spot, const CodeBlock &block, int64_t height,
                 bool ifBetter);
  void visitBlock(const Spot &spot, const CodeBlock &block, bool descent);
  bool better(const Spot &spot, const CodeBlock &block, const float *decoded,
              int64_t height);
  uint32_t stochasticCode(float value, GroupParams params, int64_t row,
                          int64_t column) const;

  const Format &format;
  int64_t first, rows, cols;
  int64_t codedRowCount, perRow, groups;
  const SweepOptions &options;
  const LevelTable *levels;
  /// Columns of the codewords of a group, and of a shorter last one.
  std::vector<int32_t> groupColumns, restColumns;

  std::vector<int32_t> order;         // of the columns of weights and errors
  std::vector<float> weights, errors; // [rows][cols]
  std::vector<float> targets;         // [rows][width of the batch]
  RowCoupling *coupling = nullptr;
  bool tellsWhole = false;
  std::vector<float> shifts;        // of weights by other rows' errors, 0 first
  std::vector<uint32_t> codes;      // [coded rows][perRow]
  std::vector<GroupParams> params;  // [coded rows][groups]
  std::vector<float> word, decoded; // of one block or tile
  std::vector<float> realRows;      // costs of those of a tile, 0 for padding
  std::vector<uint32_t> tileCodes;
};

} // namespace quench

#endif // QUENCH_LIB_QUANTIZATION_QUANTIZERS_SWEEP_H
