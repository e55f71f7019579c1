//===- Tape.cpp - Compiles and runs scalar regions --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Tape.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/Index/IR/IndexOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

static std::string textOf(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

Expected<ElementKind> quench::elementKind(Type type) {
  if (auto integer = dyn_cast<IntegerType>(type)) {
    bool isUnsigned = integer.isUnsigned();
    switch (integer.getWidth()) {
    case 1:
      return ElementKind::I1;
    case 8:
      return isUnsigned ? ElementKind::U8 : ElementKind::I8;
    case 16:
      return isUnsigned ? ElementKind::U16 : ElementKind::I16;
    case 32:
      return isUnsigned ? ElementKind::U32 : ElementKind::I32;
    case 64:
      return isUnsigned ? ElementKind::U64 : ElementKind::I64;
    default:
      break;
    }
  }
  if (isa<IndexType>(type))
    return ElementKind::I64;
  if (isa<Float16Type>(type))
    return ElementKind::F16;
  if (isa<BFloat16Type>(type))
    return ElementKind::BF16;
  if (isa<Float32Type>(type))
    return ElementKind::F32;
  if (isa<Float64Type>(type))
    return ElementKind::F64;
  return createStringError("the interpreter has no elements of type " +
                           textOf(type) +
                           "; it has i1, i8, i16, i32, i64 and their unsigned "
                           "forms, index, f16, bf16, f32 and f64");
}

RegisterKind quench::registerKind(ElementKind kind) {
  return kind == ElementKind::F64 ? RegisterKind::Double
         : isFloatKind(kind)      ? RegisterKind::Float
                                  : RegisterKind::Int;
}

static int64_t widthOf(ElementKind kind) {
  return kind == ElementKind::I1 ? 1 : elementBytes(kind) * 8;
}

int64_t quench::evaluate(AffineExpr expr, ArrayRef<int64_t> dims,
                         ArrayRef<int64_t> symbols) {
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return cast<AffineConstantExpr>(expr).getValue();
  case AffineExprKind::DimId:
    return dims[cast<AffineDimExpr>(expr).getPosition()];
  case AffineExprKind::SymbolId:
    return symbols[cast<AffineSymbolExpr>(expr).getPosition()];
  default:
    break;
  }
  auto binary = cast<AffineBinaryOpExpr>(expr);
  int64_t x = evaluate(binary.getLHS(), dims, symbols);
  int64_t y = evaluate(binary.getRHS(), dims, symbols);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return x + y;
  case AffineExprKind::Mul:
    return x * y;
  default:
    break;
  }
  if (y <= 0)
    return 0;
  int64_t quotient = x / y - (x % y < 0);
  if (expr.getKind() == AffineExprKind::FloorDiv)
    return quotient;
  if (expr.getKind() == AffineExprKind::CeilDiv)
    return quotient + (x % y != 0);
  return x - quotient * y;
}

//===----------------------------------------------------------------------===//
// Compiling
//===----------------------------------------------------------------------===//

unsigned Tape::newRegister(ElementKind kind) {
  kinds.push_back(kind);
  return kinds.size() - 1;
}

unsigned Tape::emit(Kernel kernel, ElementKind kind, ArrayRef<unsigned> src,
                    int64_t imm) {
  Instruction instruction;
  instruction.kernel = kernel;
  instruction.dst = newRegister(kind);
  instruction.imm = imm;
  llvm::copy(src, instruction.src);
  // Kernels see null for operands that are not there.
  for (size_t i = src.size(); i < 3; ++i)
    instruction.src[i] = ~0u;
  code.push_back(std::move(instruction));
  return kinds.size() - 1;
}

unsigned Tape::intConstant(int64_t value) {
  unsigned reg = newRegister(ElementKind::I64);
  constants.push_back({reg, 0, value});
  return reg;
}

Expected<unsigned> Tape::lookup(Value value, CaptureFn capture) {
  auto found = registers.find(value);
  if (found != registers.end())
    return found->second;
  Expected<HostTensor> captured = capture(value);
  if (!captured)
    return captured.takeError();
  if (captured->getRank() != 0)
    return createStringError("a region uses a tensor as a number");
  unsigned reg = newRegister(captured->getKind());
  constants.push_back({reg, captured->at(0), captured->intAt(0)});
  registers[value] = reg;
  return reg;
}

Expected<unsigned> Tape::compileExpr(AffineExpr expr, ArrayRef<unsigned> dims,
                                     unsigned numDims) {
  switch (expr.getKind()) {
  case AffineExprKind::Constant:
    return intConstant(cast<AffineConstantExpr>(expr).getValue());
  case AffineExprKind::DimId:
    return dims[cast<AffineDimExpr>(expr).getPosition()];
  case AffineExprKind::SymbolId:
    return dims[numDims + cast<AffineSymbolExpr>(expr).getPosition()];
  default:
    break;
  }
  auto binary = cast<AffineBinaryOpExpr>(expr);
  Expected<unsigned> x = compileExpr(binary.getLHS(), dims, numDims);
  if (!x)
    return x;
  Expected<unsigned> y = compileExpr(binary.getRHS(), dims, numDims);
  if (!y)
    return y;
  const char *name =
      expr.getKind() == AffineExprKind::Add        ? "arith.addi"
      : expr.getKind() == AffineExprKind::Mul      ? "arith.muli"
      : expr.getKind() == AffineExprKind::FloorDiv ? "arith.floordivsi"
      : expr.getKind() == AffineExprKind::CeilDiv  ? "arith.ceildivsi"
                                                   : "affine.mod";
  return emit(findKernel(name, ElementKind::I64, ElementKind::I64),
              ElementKind::I64, {*x, *y}, 64);
}

Error Tape::compileExtract(Operation *op, CaptureFn capture) {
  auto extract = cast<tensor::ExtractOp>(op);
  Expected<HostTensor> tensor = capture(extract.getTensor());
  if (!tensor)
    return tensor.takeError();
  Instruction instruction;
  instruction.tensor = tensors.size();
  tensors.push_back(*tensor);
  for (Value index : extract.getIndices()) {
    Expected<unsigned> reg = lookup(index, capture);
    if (!reg)
      return reg.takeError();
    instruction.indices.push_back(*reg);
  }
  instruction.dst = newRegister(tensor->getKind());
  registers[extract.getResult()] = instruction.dst;
  code.push_back(std::move(instruction));
  return Error::success();
}

/// The number of arith.cmpi's predicate that an index.cmp means.
static int64_t indexPredicate(index::CmpOp op) {
  static const llvm::StringRef names[] = {"eq",  "ne",  "slt", "sle", "sgt",
                                          "sge", "ult", "ule", "ugt", "uge"};
  return llvm::find(names, index::stringifyIndexCmpPredicate(op.getPred())) -
         std::begin(names);
}

Error Tape::compile(Operation *op, CaptureFn capture) {
  Attribute constant;
  if (op->getNumResults() == 1 && matchPattern(op, m_Constant(&constant))) {
    Type type = op->getResult(0).getType();
    Expected<ElementKind> kind = elementKind(type);
    if (!kind)
      return kind.takeError();
    double d = 0;
    int64_t i = 0;
    if (auto number = dyn_cast<FloatAttr>(constant))
      d = number.getValueAsDouble();
    else if (auto number = dyn_cast<IntegerAttr>(constant))
      i = *kind == ElementKind::I1 ? number.getValue().getBoolValue()
                                   : number.getValue().getSExtValue();
    unsigned reg = newRegister(*kind);
    constants.push_back({reg, d, i});
    registers[op->getResult(0)] = reg;
    return Error::success();
  }
  if (auto index = dyn_cast<linalg::IndexOp>(op)) {
    unsigned dim = index.getDim();
    if (dim >= indices.size())
      return createStringError("linalg.index of dimension " + Twine(dim) +
                               " of " + Twine(indices.size()));
    if (indices[dim] < 0)
      indices[dim] = newRegister(ElementKind::I64);
    registers[index.getResult()] = indices[dim];
    return Error::success();
  }
  if (isa<tensor::ExtractOp>(op))
    return compileExtract(op, capture);
  if (isa<tensor::DimOp>(op)) {
    auto dim = cast<tensor::DimOp>(op);
    Expected<HostTensor> tensor = capture(dim.getSource());
    if (!tensor)
      return tensor.takeError();
    std::optional<int64_t> i = dim.getConstantIndex();
    if (!i || *i < 0 || *i >= tensor->getRank())
      return createStringError("tensor.dim in a region needs a constant index");
    registers[dim.getResult()] = intConstant(tensor->dim(*i));
    return Error::success();
  }

  llvm::SmallVector<unsigned, 4> operands;
  for (Value operand : op->getOperands()) {
    Expected<unsigned> reg = lookup(operand, capture);
    if (!reg)
      return reg.takeError();
    operands.push_back(*reg);
  }
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
    AffineMap map = apply.getAffineMap();
    Expected<unsigned> reg =
        compileExpr(map.getResult(0), operands, map.getNumDims());
    if (!reg)
      return reg.takeError();
    registers[apply.getResult()] = *reg;
    return Error::success();
  }

  auto unsupported = [&]() -> Error {
    return createStringError("the interpreter has no scalar op '" +
                             op->getName().getStringRef() + "'");
  };
  if (op->getNumResults() != 1 || operands.empty() || operands.size() > 3 ||
      op->getNumRegions() != 0)
    return unsupported();
  Expected<ElementKind> kind =
      elementKind(getElementTypeOrSelf(op->getResult(0).getType()));
  if (!kind)
    return kind.takeError();
  ElementKind operandKind = kinds[operands[0]];
  Kernel kernel;
  int64_t imm = widthOf(operandKind);
  if (auto compare = dyn_cast<arith::CmpFOp>(op)) {
    kernel = findCompare("arith.cmpf", registerKind(operandKind));
    imm = static_cast<int64_t>(compare.getPredicate());
  } else if (auto compare = dyn_cast<arith::CmpIOp>(op)) {
    kernel = findCompare("arith.cmpi", registerKind(operandKind));
    imm = static_cast<int64_t>(compare.getPredicate()) | imm << 4;
  } else if (auto compare = dyn_cast<index::CmpOp>(op)) {
    kernel = findCompare("index.cmp", RegisterKind::Int);
    imm = indexPredicate(compare) | imm << 4;
  } else {
    kernel = findKernel(op->getName().getStringRef(), operandKind, *kind);
    if (isFloatKind(operandKind) && !isFloatKind(*kind))
      imm = widthOf(*kind);
  }
  if (!kernel)
    return unsupported();
  unsigned reg = emit(kernel, *kind, operands, imm);
  int64_t width = 0;
  if (Kernel narrow = findNarrow(*kind, width);
      narrow && !isa<arith::SelectOp>(op))
    reg = emit(narrow, *kind, {reg}, width);
  registers[op->getResult(0)] = reg;
  return Error::success();
}

Expected<Tape> Tape::compileBlock(Block &block, CaptureFn capture,
                                  int64_t numDims, bool argsAreIndices) {
  Tape tape;
  tape.indices.assign(numDims, -1);
  for (BlockArgument argument : block.getArguments()) {
    Expected<ElementKind> kind = elementKind(argument.getType());
    if (!kind)
      return kind.takeError();
    unsigned reg = tape.newRegister(*kind);
    tape.registers[argument] = reg;
    if (argsAreIndices)
      tape.indices[argument.getArgNumber()] = reg;
    else
      tape.arguments.push_back(reg);
  }
  for (Operation &op : block.without_terminator())
    if (Error error = tape.compile(&op, capture))
      return std::move(error);
  for (Value value : block.getTerminator()->getOperands()) {
    Expected<unsigned> reg = tape.lookup(value, capture);
    if (!reg)
      return reg.takeError();
    tape.results.push_back(*reg);
  }
  return tape;
}

Expected<Tape> Tape::compileOp(Operation *op) {
  Tape tape;
  for (Value operand : op->getOperands()) {
    Expected<ElementKind> kind =
        elementKind(getElementTypeOrSelf(operand.getType()));
    if (!kind)
      return kind.takeError();
    unsigned reg = tape.newRegister(*kind);
    tape.arguments.push_back(reg);
    // An operand that comes twice is loaded twice.
    tape.registers[operand] = reg;
  }
  auto none = [](Value) -> Expected<HostTensor> {
    return createStringError("an operand without a value");
  };
  if (Error error = tape.compile(op, none))
    return std::move(error);
  tape.results.push_back(tape.registers[op->getResult(0)]);
  return tape;
}

bool Tape::usesIndices() const {
  return llvm::any_of(indices, [](int reg) { return reg >= 0; });
}

bool Tape::usesArgument(unsigned i) const {
  unsigned reg = arguments[i];
  return llvm::is_contained(results, reg) ||
         llvm::any_of(code, [&](const Instruction &instruction) {
           if (!instruction.kernel)
             return llvm::is_contained(instruction.indices, reg);
           return llvm::is_contained(instruction.src, reg);
         });
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

static constexpr size_t kRegisterBytes = kChunk * 8;

Tape::Frame::Frame(const Tape &tape)
    : tape(tape), storage(tape.kinds.size() * kRegisterBytes + 64) {
  for (unsigned reg = 0; reg < tape.kinds.size(); ++reg)
    current.push_back(memoryOf(reg));
  for (const Constant &constant : tape.constants) {
    char *memory = memoryOf(constant.reg);
    switch (registerKind(tape.kinds[constant.reg])) {
    case RegisterKind::Float:
      std::fill_n(reinterpret_cast<float *>(memory), kChunk,
                  static_cast<float>(constant.d));
      break;
    case RegisterKind::Double:
      std::fill_n(reinterpret_cast<double *>(memory), kChunk, constant.d);
      break;
    case RegisterKind::Int:
      std::fill_n(reinterpret_cast<int64_t *>(memory), kChunk, constant.i);
      break;
    }
  }
}

char *Tape::Frame::memoryOf(unsigned reg) {
  uintptr_t start = reinterpret_cast<uintptr_t>(storage.data());
  size_t aligned = (start + 63) / 64 * 64 - start;
  return storage.data() + aligned + reg * kRegisterBytes;
}

void *Tape::Frame::argument(unsigned i) {
  unsigned reg = tape.arguments[i];
  current[reg] = memoryOf(reg);
  return memoryOf(reg);
}

void Tape::Frame::setArgument(unsigned i, const void *data) {
  current[tape.arguments[i]] = data;
}

int64_t *Tape::Frame::index(unsigned dim) {
  return reinterpret_cast<int64_t *>(memoryOf(tape.indices[dim]));
}

const void *Tape::Frame::result(unsigned i) const {
  return current[tape.results[i]];
}

Error Tape::Frame::run(int64_t n) {
  for (const Instruction &instruction : tape.code) {
    char *dst = memoryOf(instruction.dst);
    if (instruction.kernel) {
      const void *src[3];
      for (int i = 0; i < 3; ++i)
        src[i] =
            instruction.src[i] == ~0u ? nullptr : current[instruction.src[i]];
      instruction.kernel(dst, src[0], src[1], src[2], n, instruction.imm);
      continue;
    }
    const HostTensor &tensor = tape.tensors[instruction.tensor];
    int64_t offsets[kChunk] = {};
    for (auto [dim, reg] : llvm::enumerate(instruction.indices)) {
      const int64_t *index = static_cast<const int64_t *>(current[reg]);
      int64_t size = tensor.dim(dim);
      for (int64_t i = 0; i < n; ++i) {
        if (index[i] < 0 || index[i] >= size)
          return createStringError("index " + Twine(index[i]) +
                                   " of dimension " + Twine(dim) + " of " +
                                   tensor.describe());
        offsets[i] = offsets[i] * size + index[i];
      }
    }
    gatherRegister(tensor.getKind(), tensor.raw(), offsets, n, dst);
  }
  return Error::success();
}
