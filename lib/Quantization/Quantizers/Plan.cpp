//===- Plan.cpp - In which order a row is coded ---------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Plan.h"
#include "llvm/ADT/STLExtras.h"
#include <algorithm>
#include <numeric>

using namespace quench;

/// Places of a batch, unless a block or a group alone has more.
static constexpr int64_t kBatch = 128;

/// Appends the blocks of a row in their natural order, and their columns.
static void addBlocks(const Format &format, int64_t cols, CodePlan &plan) {
  if (format.hasTiles()) {
    for (int64_t first = 0, width = format.tileColumns(); first < cols;
         first += width)
      plan.blocks.push_back({first, std::min(width, cols - first), first, 0});
    plan.order.resize(cols);
    std::iota(plan.order.begin(), plan.order.end(), 0);
    return;
  }
  std::vector<int32_t> columns = codeColumns(format, cols);
  int64_t length = format.codeLength(), group = 0;
  for (int64_t code = 0, count = columns.size() / length; code < count;
       ++code) {
    CodeBlock block{static_cast<int64_t>(plan.order.size()), 0, code, 0};
    for (int64_t i = 0; i < length; ++i)
      if (int32_t column = columns[code * length + i]; column >= 0) {
        plan.order.push_back(column);
        ++block.width;
        group = column / plan.columnsPerGroup;
      }
    block.group = group;
    if (block.width != 0)
      plan.blocks.push_back(block);
    else
      plan.padding.push_back({code, group});
  }
}

/// Sorts the blocks and renumbers the places.
static void sortBlocks(const double *importance, CodePlan &plan) {
  auto weight = [&](const CodeBlock &block) {
    double sum = 0;
    for (int64_t place = block.place; place < block.end(); ++place)
      sum += importance[plan.order[place]];
    return sum / block.width;
  };
  std::vector<std::pair<double, CodeBlock>> sorted;
  for (const CodeBlock &block : plan.blocks)
    sorted.push_back({weight(block), block});
  std::sort(sorted.begin(), sorted.end(), [](const auto &a, const auto &b) {
    return a.first != b.first ? a.first > b.first
                              : a.second.code < b.second.code;
  });
  std::vector<int32_t> order;
  for (auto [i, entry] : llvm::enumerate(sorted)) {
    CodeBlock block = entry.second;
    int64_t from = block.place;
    block.place = order.size();
    order.insert(order.end(), plan.order.begin() + from,
                 plan.order.begin() + from + block.width);
    plan.blocks[i] = block;
  }
  plan.order = std::move(order);
}

CodePlan quench::makePlan(const Format &format, int64_t cols,
                          const double *importance) {
  CodePlan plan;
  plan.columnsPerGroup = format.group() == 0 ? cols : format.group();
  plan.wholeGroups = !importance && format.group() != 0 &&
                     format.group() <= kLongestWholeGroup;
  addBlocks(format, cols, plan);
  if (importance)
    sortBlocks(importance, plan);

  int64_t count = plan.blocks.size();
  for (int64_t first = 0, end; first < count; first = end) {
    // Pieces (blocks, or all blocks of a group) as long as they fit.
    CodeBatch batch{first, first, plan.blocks[first].place, 0};
    for (end = first; end < count;) {
      int64_t next = end + 1;
      while (plan.wholeGroups && next < count &&
             plan.blocks[next].group == plan.blocks[end].group)
        ++next;
      int64_t width = plan.blocks[next - 1].end() - batch.place;
      if (end != first && width > kBatch)
        break;
      batch.width = width;
      batch.endBlock = end = next;
    }
    plan.widestBatch = std::max(plan.widestBatch, batch.width);
    plan.batches.push_back(batch);
  }
  return plan;
}
