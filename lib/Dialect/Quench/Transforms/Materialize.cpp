//===- Materialize.cpp - From lazy weights to packed bytes -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/Transforms/Materialize.h"
#include "StoredCodes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "quench/Kernels/Contract.h"
#include "quench/Quantization/Tail.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using namespace quench::qn;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;

SectionSink::~SectionSink() = default;

namespace {

/// A weight that lies in the section.
struct Packed {
  SectionAttr section;
  const Format *format;
  OutlierPlace outliers;
  size_t row; // of the report
};

class Materializer {
public:
  Materializer(ModuleOp module, ModelFiles &files, SectionSink &sink,
               const MaterializeOptions &options,
               std::vector<WeightReport> &report)
      : module(module), context(module.getContext()), evaluator(module, files),
        sink(sink), options(options), report(report) {}

  LogicalResult run();

private:
  LogicalResult convert(LinearOp op);
  LogicalResult convert(EmbeddingOp op);
  LogicalResult convert(RotaryOp op);
  LogicalResult convertPlain(Operation *op);

  FailureOr<Packed> pack(Operation *user, Value weight, StringRef role,
                         int64_t block, bool integer = false);
  Expected<PackedWeight> makePacked(Value weight, Value source,
                                    const Format &format, StringRef quantizer,
                                    const std::optional<StoredCodes> &stored);
  FailureOr<SectionAttr> append(Operation *user, ArrayRef<uint8_t> bytes);
  Value packedValue(OpBuilder &builder, Location loc, SectionAttr section,
                    Type type);
  Value product(OpBuilder &builder, Location loc, Value rows,
                SectionAttr section, const Format &weightFormat, int64_t n,
                bool integer);

  ModuleOp module;
  MLIRContext *context;
  WeightEvaluator evaluator;
  SectionSink &sink;
  const MaterializeOptions &options;
  std::vector<WeightReport> &report;
  std::map<std::string, Packed> packed;
  std::map<std::string, SectionAttr> plain;
  int64_t total = 0, done = 0;
};

/// The name that a user knows an op by.
std::string nameOf(Operation *op) {
  std::string name;
  op->getLoc()->walk([&](Location loc) {
    if (auto named = dyn_cast<NameLoc>(loc)) {
      name = named.getName().str();
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return name;
}

/// The shape of a tensor, quantized or not.
ArrayRef<int64_t> shapeOf(Value v) {
  if (auto q = dyn_cast<QTensorType>(v.getType()))
    return q.getShape();
  return cast<ShapedType>(v.getType()).getShape();
}

/// The format of a weight that no recipe has quantized: its own numbers.
StringRef plainFormat(Type element) {
  if (element.isF16())
    return "float<16>";
  if (element.isBF16())
    return "float<bf16>";
  return "float<32>";
}

} // namespace

FailureOr<SectionAttr> Materializer::append(Operation *user,
                                            ArrayRef<uint8_t> bytes) {
  Expected<uint64_t> offset = sink.append(bytes, 64);
  if (!offset)
    return user->emitError() << toString(offset.takeError());
  return SectionAttr::get(context, *offset, bytes.size());
}

Value Materializer::packedValue(OpBuilder &builder, Location loc,
                                SectionAttr section, Type type) {
  return PackedOp::create(builder, loc, type, section);
}

FailureOr<Packed> Materializer::pack(Operation *user, Value weight,
                                     StringRef role, int64_t block,
                                     bool integer) {
  std::optional<StoredCodes> stored;
  const Format *format;
  StringRef quantizer = "rtn";
  Value source = weight;
  if (auto quantize = weight.getDefiningOp<QuantizeOp>()) {
    format = &quantize.getType().getFormat().getFormat();
    quantizer = quantize.getQuantizer();
    source = quantize.getInput();
  } else {
    auto leaf = source.getDefiningOp<WeightOp>();
    Type element = cast<ShapedType>(source.getType()).getElementType();
    if (leaf)
      element = SymbolTable::lookupNearestSymbolFrom<InitializerOp>(
                    module, leaf.getInitializerAttr())
                    .getTensorType()
                    .getElementType();
    format = *getFormat(plainFormat(element));
    if (auto assemble = source.getDefiningOp<AssembleOp>()) {
      Expected<AssembledWeight> assembled = evaluator.assembled(assemble);
      if (!assembled)
        return user->emitError() << toString(assembled.takeError());
      bool isKept = integer || assemble->hasAttr("quench.keep_codes");
      stored = keepCodes(*assembled, /*exact=*/!isKept);
      if (stored)
        format = stored->format;
    }
  }
  std::string key =
      WeightEvaluator::key(source) + format->spec() + quantizer.str();
  auto [it, isNew] = packed.try_emplace(key);
  ++done;
  if (!isNew) {
    // A table that is also the head is read as a whole for each token.
    if (role == "head")
      report[it->second.row].role = "head";
    return it->second;
  }

  auto type = cast<ShapedType>(source.getType());
  int64_t rows = type.getDimSize(0), cols = type.getDimSize(1);
  WeightReport row;
  row.name = nameOf(user);
  row.role = role.str();
  row.format = format->spec();
  row.rows = rows;
  row.cols = cols;
  row.block = block;
  if (options.progress)
    options.progress(row.name, done, total);

  Expected<PackedWeight> result =
      makePacked(weight, source, *format, quantizer, stored);
  if (!result)
    return user->emitError()
           << "'" << row.name << "': " << toString(result.takeError());
  row.packedBytes = result->stream.size();
  row.bits = storedBits(*format, rows, cols, row.packedBytes) +
             result->outliers.bits(rows);
  row.relativeError = result->relativeError;
  row.errorBound = result->errorBound;
  row.lossLimit = result->lossLimit;
  row.entropy = result->entropy;
  row.loss = result->loss;
  row.note = result->note;
  if (source != weight)
    row.quantizer = result->quantizer;
  FailureOr<SectionAttr> section = append(user, result->stream);
  if (failed(section))
    return failure();
  it->second = {*section, format, result->outliers, report.size()};
  report.push_back(std::move(row));
  return it->second;
}

Expected<PackedWeight>
Materializer::makePacked(Value weight, Value source, const Format &format,
                         StringRef quantizer,
                         const std::optional<StoredCodes> &stored) {
  if (options.quantized && weight != source) {
    Expected<std::shared_ptr<const PackedWeight>> found =
        options.quantized->find(WeightEvaluator::key(weight));
    if (!found)
      return found.takeError();
    if (*found)
      return **found;
  }
  WeightRows read(evaluator, source);
  QuantizeProblem problem;
  problem.format = &format;
  problem.rows = read.rows();
  problem.cols = read.cols();
  problem.threads = options.threads;
  if (stored)
    return packCodes(format, problem.rows, problem.cols, problem.threads, read,
                     [&](int64_t begin, int64_t end) {
                       return stored->rows(begin, end - begin, problem.cols);
                     });
  Expected<const Quantizer *> found = getQuantizer(quantizer);
  if (!found)
    return found.takeError();
  return quantizeWeight(**found, problem, read);
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

/// x: [..., k] as [rows, k].
static Value flattenRows(OpBuilder &builder, Location loc, Value x) {
  auto type = cast<RankedTensorType>(x.getType());
  if (type.getRank() == 2)
    return x;
  if (type.getRank() == 1) {
    SmallVector<ReassociationIndices> groups = {{0, 1}};
    auto expanded =
        RankedTensorType::get({1, type.getDimSize(0)}, type.getElementType());
    return tensor::ExpandShapeOp::create(builder, loc, expanded, x, groups);
  }
  SmallVector<ReassociationIndices> groups(2);
  for (int64_t i = 0; i + 1 < type.getRank(); ++i)
    groups[0].push_back(i);
  groups[1].push_back(type.getRank() - 1);
  return tensor::CollapseShapeOp::create(builder, loc, x, groups);
}

/// y: [rows, n] with the leading dimensions of `like`.
static Value restoreRows(OpBuilder &builder, Location loc, Value y, Value like,
                         RankedTensorType type) {
  if (type.getRank() == 2)
    return y;
  if (type.getRank() == 1) {
    SmallVector<ReassociationIndices> groups = {{0, 1}};
    return tensor::CollapseShapeOp::create(builder, loc, type, y, groups);
  }
  SmallVector<ReassociationIndices> groups(2);
  SmallVector<OpFoldResult> sizes;
  for (int64_t i = 0; i + 1 < type.getRank(); ++i) {
    groups[0].push_back(i);
    sizes.push_back(tensor::getMixedSize(builder, loc, like, i));
  }
  groups[1].push_back(type.getRank() - 1);
  sizes.push_back(builder.getIndexAttr(type.getShape().back()));
  return tensor::ExpandShapeOp::create(builder, loc, type, y, groups, sizes);
}

/// x + more; `more` has the last dimensions of x, one or all.
static Value addTo(OpBuilder &builder, Location loc, Value x, Value more) {
  auto type = cast<RankedTensorType>(x.getType());
  int64_t rank = type.getRank();
  AffineMap all = AffineMap::getMultiDimIdentityMap(rank, builder.getContext());
  AffineMap last =
      all.getMinorSubMap(cast<RankedTensorType>(more.getType()).getRank());
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  return linalg::GenericOp::create(
             builder, loc, type, ValueRange{more}, ValueRange{x},
             ArrayRef<AffineMap>{last, all}, iterators,
             [](OpBuilder &b, Location l, ValueRange args) {
               Value sum = arith::AddFOp::create(b, l, args[1], args[0]);
               linalg::YieldOp::create(b, l, sum);
             })
      .getResult(0);
}

/// rows [m, k] as int8 with a scale for each row, and back:
/// round(x * (127 / max)) * (max / 127), ties to even, as a stage does it.
static Value roundRows(OpBuilder &builder, Location loc, Value rows) {
  auto type = cast<RankedTensorType>(rows.getType());
  Type f32 = builder.getF32Type();
  MLIRContext *context = builder.getContext();
  AffineMap all = AffineMap::getMultiDimIdentityMap(2, context);
  AffineMap row = AffineMap::get(2, 0, getAffineDimExpr(0, context));
  OpFoldResult m = tensor::getMixedSize(builder, loc, rows, 0);
  auto constant = [&](OpBuilder &b, float v) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(v)).getResult();
  };
  Value empty = tensor::EmptyOp::create(builder, loc, ArrayRef{m}, f32);
  // The smallest maximum keeps 127 / max finite.
  Value least =
      linalg::FillOp::create(builder, loc, constant(builder, 1e-30f), empty)
          .getResult(0);
  Value maxima =
      linalg::GenericOp::create(
          builder, loc, least.getType(), ValueRange{rows}, ValueRange{least},
          ArrayRef<AffineMap>{all, row},
          ArrayRef<utils::IteratorType>{utils::IteratorType::parallel,
                                        utils::IteratorType::reduction},
          [](OpBuilder &b, Location l, ValueRange args) {
            Value size = math::AbsFOp::create(b, l, args[0]);
            Value more = arith::MaximumFOp::create(b, l, size, args[1]);
            linalg::YieldOp::create(b, l, more);
          })
          .getResult(0);
  Value out = tensor::EmptyOp::create(
      builder, loc, tensor::getMixedSizes(builder, loc, rows), f32);
  return linalg::GenericOp::create(
             builder, loc, type, ValueRange{rows, maxima}, ValueRange{out},
             ArrayRef<AffineMap>{all, row, all},
             SmallVector<utils::IteratorType>(2, utils::IteratorType::parallel),
             [&](OpBuilder &b, Location l, ValueRange args) {
               Value full = constant(b, 127.0f);
               Value inverse = arith::DivFOp::create(b, l, full, args[1]);
               Value scale = arith::DivFOp::create(b, l, args[1], full);
               Value code = math::RoundEvenOp::create(
                   b, l, arith::MulFOp::create(b, l, args[0], inverse));
               Value back = arith::MulFOp::create(b, l, code, scale);
               linalg::YieldOp::create(b, l, back);
             })
      .getResult(0);
}

/// Columns of x [m, k], by their numbers: [m, columns].
static Value chooseColumns(OpBuilder &builder, Location loc, Value x,
                           Value columns) {
  int64_t count = cast<RankedTensorType>(columns.getType()).getDimSize(0);
  MLIRContext *context = builder.getContext();
  SmallVector<OpFoldResult> sizes = {tensor::getMixedSize(builder, loc, x, 0),
                                     builder.getIndexAttr(count)};
  Value empty = tensor::EmptyOp::create(
      builder, loc, sizes,
      cast<RankedTensorType>(x.getType()).getElementType());
  AffineMap all = AffineMap::getMultiDimIdentityMap(2, context);
  AffineMap last = AffineMap::get(2, 0, getAffineDimExpr(1, context));
  SmallVector<utils::IteratorType> iterators(2, utils::IteratorType::parallel);
  return linalg::GenericOp::create(
             builder, loc, empty.getType(), ValueRange{columns},
             ValueRange{empty}, ArrayRef<AffineMap>{last, all}, iterators,
             [&](OpBuilder &b, Location l, ValueRange args) {
               Value column =
                   arith::IndexCastOp::create(b, l, b.getIndexType(), args[0]);
               Value row = linalg::IndexOp::create(b, l, 0);
               Value v =
                   tensor::ExtractOp::create(b, l, x, ValueRange{row, column});
               linalg::YieldOp::create(b, l, v);
             })
      .getResult(0);
}

/// rows [m, k] times the transposed weight [n, k] at `section`: [m, n].
Value Materializer::product(OpBuilder &builder, Location loc, Value rows,
                            SectionAttr section, const Format &weightFormat,
                            int64_t n, bool integer) {
  auto rowsType = cast<RankedTensorType>(rows.getType());
  int64_t m = rowsType.getDimSize(0), k = rowsType.getDimSize(1);
  bool tiled = m != 1;
  auto format = FormatAttr::get(context, weightFormat.spec());
  Type f32 = builder.getF32Type();
  auto dynamic = [&](Type element) {
    return RankedTensorType::get({ShapedType::kDynamic}, element);
  };
  // Where rows are read as they are, there is nothing to stage.
  StageSpec spec;
  spec.format = &weightFormat;
  spec.k = k;
  spec.integer = integer;
  spec.tiled = tiled;
  Value codes, scales, sums;
  if (spec.isNoop()) {
    SmallVector<ReassociationIndices> all = {{0, 1}};
    codes = scales = sums =
        tensor::CollapseShapeOp::create(builder, loc, rows, all);
  } else {
    auto stage = StageOp::create(
        builder, loc, dynamic(integer ? Type(builder.getI32Type()) : f32),
        dynamic(f32), dynamic(integer ? Type(builder.getI32Type()) : f32), rows,
        ValueRange{}, format, integer, tiled);
    codes = stage.getCodes();
    scales = stage.getScales();
    sums = stage.getSums();
  }
  Value stream = packedValue(
      builder, loc, section,
      RankedTensorType::get({section.getBytes()}, builder.getI8Type()));
  Value size;
  if (ShapedType::isDynamic(m))
    size = tensor::DimOp::create(builder, loc, rows, 0);
  else
    size = arith::ConstantIndexOp::create(builder, loc, m);
  return ContractOp::create(builder, loc, RankedTensorType::get({m, n}, f32),
                            codes, scales, sums, stream, size, Value(), format,
                            n, k, integer, tiled)
      .getResult();
}

LogicalResult Materializer::convert(LinearOp op) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  if (!WeightEvaluator::isWeight(op.getWeight()))
    return op.emitError() << "the weight of a linear layer must depend on "
                             "initializers only";
  auto quantize = op.getInput().getDefiningOp<QuantizeOp>();
  FailureOr<Packed> weight =
      pack(op, op.getWeight(), op.getRole().value_or("other"),
           op.getBlock().value_or(-1), quantize != nullptr);
  if (failed(weight))
    return failure();
  // Levels that are no integers meet the numbers of the codes.
  bool integer = quantize && weight->format->isInteger();
  Value x = quantize ? quantize.getInput() : op.getInput();
  Value rows = flattenRows(builder, loc, x), rounded = rows;
  const OutlierPlace &outliers = weight->outliers;
  if (quantize && (!integer || outliers.format))
    rounded = roundRows(builder, loc, rows);
  int64_t n = shapeOf(op.getWeight())[0];
  SectionAttr whole = weight->section;
  auto piece = [&](int64_t from, int64_t to) {
    return SectionAttr::get(context, whole.getOffset() + from, to - from);
  };
  SectionAttr codes = outliers.format ? piece(0, outliers.columnsAt) : whole;
  Value y = product(builder, loc, integer ? rows : rounded, codes,
                    *weight->format, n, integer);
  if (outliers.format) {
    Value columns = packedValue(
        builder, loc,
        piece(outliers.columnsAt, outliers.columnsAt + 4 * outliers.count),
        RankedTensorType::get({outliers.count}, builder.getI32Type()));
    Value more =
        product(builder, loc, chooseColumns(builder, loc, rounded, columns),
                piece(outliers.codesAt, outliers.end), *outliers.format, n,
                /*integer=*/false);
    y = addTo(builder, loc, y, more);
  }
  y = restoreRows(builder, loc, y, x, cast<RankedTensorType>(op.getType()));
  if (op.getBias())
    y = addTo(builder, loc, y, op.getBias());
  op.replaceAllUsesWith(y);
  op.erase();
  return success();
}

LogicalResult Materializer::convert(EmbeddingOp op) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  FailureOr<Packed> weight = pack(op, op.getTable(), "embedding", -1);
  if (failed(weight))
    return failure();
  if (weight->outliers.format)
    return op.emitError("a table of embeddings cannot have outlier columns; "
                        "give its layer another quantizer");
  ArrayRef<int64_t> shape = shapeOf(op.getTable());
  int64_t n = shape[0], k = shape[1];
  auto idsType = cast<RankedTensorType>(op.getIds().getType());
  Value ids = op.getIds();
  if (idsType.getRank() != 1) {
    SmallVector<ReassociationIndices> groups;
    if (idsType.getRank() != 0) {
      groups.emplace_back();
      for (int64_t i = 0; i != idsType.getRank(); ++i)
        groups[0].push_back(i);
      ids = tensor::CollapseShapeOp::create(builder, loc, ids, groups);
    } else {
      ids = tensor::ExpandShapeOp::create(
          builder, loc, RankedTensorType::get({1}, idsType.getElementType()),
          ids, groups);
    }
  }
  int64_t m = cast<RankedTensorType>(ids.getType()).getDimSize(0);
  Value stream = packedValue(
      builder, loc, weight->section,
      RankedTensorType::get({weight->section.getBytes()}, builder.getI8Type()));
  Value y =
      LookupRowsOp::create(
          builder, loc, RankedTensorType::get({m, k}, builder.getF32Type()),
          ids, stream, Value(),
          FormatAttr::get(context, weight->format->spec()), n, k)
          .getResult();
  auto resultType = cast<RankedTensorType>(op.getType());
  if (resultType.getRank() == 2) {
  } else if (resultType.getRank() == 1) {
    SmallVector<ReassociationIndices> groups = {{0, 1}};
    y = tensor::CollapseShapeOp::create(builder, loc, resultType, y, groups);
  } else {
    SmallVector<ReassociationIndices> groups(2);
    SmallVector<OpFoldResult> sizes;
    for (int64_t i = 0; i + 1 < resultType.getRank(); ++i) {
      groups[0].push_back(i);
      sizes.push_back(tensor::getMixedSize(builder, loc, op.getIds(), i));
    }
    groups[1].push_back(resultType.getRank() - 1);
    sizes.push_back(builder.getIndexAttr(k));
    y = tensor::ExpandShapeOp::create(builder, loc, resultType, y, groups,
                                      sizes);
  }
  op.replaceAllUsesWith(y);
  op.erase();
  return success();
}

LogicalResult Materializer::convert(RotaryOp op) {
  ArrayRef<float> frequencies = op.getFrequencies();
  int64_t half = frequencies.size(), positions = options.maxPositions;
  std::string key = "rotary";
  for (float f : frequencies)
    key += llvm::utohexstr(llvm::bit_cast<uint32_t>(f)) + ",";
  SectionAttr &section = plain[key];
  if (!section) {
    std::vector<float> table(positions * 2 * half);
    for (int64_t p = 0; p != positions; ++p)
      for (int64_t i = 0; i != half; ++i) {
        // The angle is rounded to f32 as ONNX graphs round it; its functions
        // are exact.
        float angle = static_cast<float>(p) * frequencies[i];
        table[p * 2 * half + i] = static_cast<float>(std::cos(double(angle)));
        table[p * 2 * half + half + i] =
            static_cast<float>(std::sin(double(angle)));
      }
    FailureOr<SectionAttr> made =
        append(op, {reinterpret_cast<const uint8_t *>(table.data()),
                    table.size() * 4});
    if (failed(made))
      return failure();
    section = *made;
  }
  OpBuilder builder(op);
  Value table = packedValue(
      builder, op.getLoc(), section,
      RankedTensorType::get({positions, 2 * half}, builder.getF32Type()));
  op.getTableMutable().assign(table);
  return success();
}

/// A weight used by anything else: its numbers, as f32, or as stored if they
/// are integers.
LogicalResult Materializer::convertPlain(Operation *op) {
  Value value = op->getResult(0);
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type)
    return op->emitError()
           << "a quantized tensor is left that nothing reads as a weight";
  std::string key = WeightEvaluator::key(value);
  SectionAttr &section = plain[key];
  if (!section) {
    FailureOr<SectionAttr> made = failure();
    if (type.getElementType().isF32()) {
      Expected<std::vector<float>> numbers = evaluator.all(value);
      if (!numbers)
        return op->emitError() << toString(numbers.takeError());
      made = append(op, {reinterpret_cast<const uint8_t *>(numbers->data()),
                         numbers->size() * 4});
    } else if (auto leaf = dyn_cast<WeightOp>(op);
               leaf && !leaf.getTranspose()) {
      Expected<ArrayRef<char>> bytes = evaluator.bytes(leaf.getInitializer());
      if (!bytes)
        return op->emitError() << toString(bytes.takeError());
      made = append(op, {reinterpret_cast<const uint8_t *>(bytes->data()),
                         bytes->size()});
    } else {
      return op->emitError()
             << "a weight of type " << type
             << " is read by an op that takes no weights of that type";
    }
    if (failed(made))
      return failure();
    section = *made;
  }
  OpBuilder builder(op);
  value.replaceAllUsesWith(packedValue(builder, op->getLoc(), section, type));
  op->erase();
  return success();
}

LogicalResult Materializer::run() {
  SmallVector<LinearOp> linears;
  SmallVector<EmbeddingOp> embeddings;
  SmallVector<RotaryOp> rotaries;
  module.walk([&](Operation *op) {
    if (auto linear = dyn_cast<LinearOp>(op))
      linears.push_back(linear);
    else if (auto embedding = dyn_cast<EmbeddingOp>(op);
             embedding && WeightEvaluator::isWeight(embedding.getTable()))
      embeddings.push_back(embedding);
    else if (auto rotary = dyn_cast<RotaryOp>(op))
      rotaries.push_back(rotary);
  });
  total = linears.size() + embeddings.size();
  for (EmbeddingOp op : embeddings)
    if (failed(convert(op)))
      return failure();
  for (RotaryOp op : rotaries)
    if (failed(convert(op)))
      return failure();
  for (LinearOp op : linears)
    if (failed(convert(op)))
      return failure();
  // What is left: drop the dead, then the leaves of everything else.
  bool changed = true;
  while (changed) {
    changed = false;
    SmallVector<Operation *> dead;
    module.walk([&](Operation *op) {
      if (isa<WeightOp, MapOp, QuantizeOp, DequantizeOp, AssembleOp>(op) &&
          op->use_empty())
        dead.push_back(op);
    });
    for (Operation *op : dead) {
      op->erase();
      changed = true;
    }
  }
  SmallVector<Operation *> roots;
  module.walk([&](Operation *op) {
    if (op->getNumResults() == 1 &&
        WeightEvaluator::isWeight(op->getResult(0)) &&
        llvm::any_of(op->getUsers(), [&](Operation *user) {
          return !WeightEvaluator::isWeight(
                     user->getNumResults() ? user->getResult(0) : Value()) ||
                 !isa<WeightOp, MapOp, QuantizeOp, DequantizeOp, AssembleOp>(
                     user);
        }))
      roots.push_back(op);
  });
  for (Operation *op : roots)
    if (failed(convertPlain(op)))
      return failure();
  changed = true;
  while (changed) {
    changed = false;
    SmallVector<Operation *> dead;
    module.walk([&](Operation *op) {
      if (isa<WeightOp, MapOp, AssembleOp>(op) && op->use_empty() &&
          op->getNumResults())
        dead.push_back(op);
    });
    for (Operation *op : dead) {
      op->erase();
      changed = true;
    }
  }
  for (InitializerOp init :
       llvm::make_early_inc_range(module.getOps<InitializerOp>()))
    init.erase();
  return success();
}

LogicalResult quench::materialize(ModuleOp module, ModelFiles &files,
                                  SectionSink &sink,
                                  const MaterializeOptions &options,
                                  std::vector<WeightReport> &report) {
  return Materializer(module, files, sink, options, report).run();
}
