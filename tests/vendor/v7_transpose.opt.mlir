#map = affine_map<()[s0] -> (-s0 + 32)>
#map1 = affine_map<()[s0, s1] -> (s0 * 16 + s1 * 16)>
#map2 = affine_map<()[s0, s1] -> (s0 * -16 - s1 * 16 + 512, 16)>
#map3 = affine_map<()[s0] -> (((s0 + 15) floordiv 16) * 16)>
module attributes {dlti.target_system_spec = #dlti.target_system_spec<"NPU" : #hacc.target_device_spec<#dlti.dl_entry<"AI_CORE_COUNT", 24 : i32>, #dlti.dl_entry<"CUBE_CORE_COUNT", 24 : i32>, #dlti.dl_entry<"VECTOR_CORE_COUNT", 48 : i32>, #dlti.dl_entry<"UB_SIZE", 1572864 : i32>, #dlti.dl_entry<"L1_SIZE", 4194304 : i32>, #dlti.dl_entry<"L0A_SIZE", 524288 : i32>, #dlti.dl_entry<"L0B_SIZE", 524288 : i32>, #dlti.dl_entry<"L0C_SIZE", 1048576 : i32>, #dlti.dl_entry<"UB_ALIGN_SIZE", 256 : i32>, #dlti.dl_entry<"L1_ALIGN_SIZE", 256 : i32>, #dlti.dl_entry<"L0C_ALIGN_SIZE", 4096 : i32>>>,   hivm.module_core_type = #hivm.module_core_type<AIV>} {
  func.func @tr_get_tiling_struct_size_function() -> i64 attributes {hacc.function_kind = #hacc.function_kind<HOST>, hacc.host_func_type = #hacc.host_func_type<get_tiling_struct_size_function>} {
    %c0_i64 = arith.constant 0 : i64
    return %c0_i64 : i64
  }
  func.func private @load_gm_to_ubuf_2d_half(memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @transpose_2d_with_last_axis_half(memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @store_ubuf_to_gm_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @load_gm_to_ubuf_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func @tr(%arg0: memref<1024x512xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg1: memref<512x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<output>, hacc.output_idx = #hacc.output_idx<0>}) attributes {enable_auto_mark_buffer_size, hacc.block_dim = 48 : i64, hacc.entry, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.get_tiling_struct_size_function = #hacc.get_tiling_struct_size_function<@tr_get_tiling_struct_size_function>, hfusion.fusion_kind = #hfusion.fusion_kind<PURE_ELEMWISE>, hivm.func_core_type = #hivm.func_core_type<AIV>, hivm.storage_aligned} {
    %cst = arith.constant 0.000000e+00 : f16
    %c0_i32 = arith.constant 0 : i32
    %c98272_i64 = arith.constant 98272 : i64
    %c0_i64 = arith.constant 0 : i64
    %c0 = arith.constant 0 : index
    %c48 = arith.constant 48 : index
    hivm.hir.set_mask_norm
    %0 = hivm.hir.get_block_idx -> i64
    %1 = arith.index_cast %0 : i64 to index
    %2 = affine.apply #map()[%1]
    hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    scf.for %arg2 = %c0 to %2 step %c48 {
      %3 = affine.apply #map1()[%1, %arg2]
      %4 = affine.min #map2()[%1, %arg2]
      %subview = memref.subview %arg0[0, %3] [1024, %4] [1, 1] : memref<1024x512xf16, #hivm.address_space<gm>> to memref<1024x?xf16, strided<[512, 1], offset: ?>, #hivm.address_space<gm>>
      %5 = affine.apply #map3()[%4]
      %6 = hivm.hir.pointer_cast(%c0_i64) : memref<98272xi8, #hivm.address_space<ub>>
      %view = memref.view %6[%c0][%5] : memref<98272xi8, #hivm.address_space<ub>> to memref<1024x?x1xf16, #hivm.address_space<ub>>
      %subview_0 = memref.subview %view[0, 0, 0] [1024, %5, 1] [1, 1, 1] : memref<1024x?x1xf16, #hivm.address_space<ub>> to memref<1024x?xf16, strided<[?, 1]>, #hivm.address_space<ub>>
      %subview_1 = memref.subview %subview_0[0, 0] [1024, %4] [1, 1] : memref<1024x?xf16, strided<[?, 1]>, #hivm.address_space<ub>> to memref<1024x?xf16, strided<[?, 1]>, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
      %cast = memref.cast %subview : memref<1024x?xf16, strided<[512, 1], offset: ?>, #hivm.address_space<gm>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>
      %cast_2 = memref.cast %subview_1 : memref<1024x?xf16, strided<[?, 1]>, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_2d_half(%cast, %cast_2, %c0_i32, %cst, %c0) : (memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %subview_3 = memref.subview %arg1[%3, 0] [%4, 1024] [1, 1] : memref<512x1024xf16, #hivm.address_space<gm>> to memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %7 = hivm.hir.pointer_cast(%c98272_i64) : memref<98272xi8, #hivm.address_space<ub>>
      %view_4 = memref.view %7[%c0][%5] : memref<98272xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %subview_5 = memref.subview %view_4[0, 0] [%4, 1024] [1, 1] : memref<?x1024xf16, #hivm.address_space<ub>> to memref<?x1024xf16, strided<[1024, 1]>, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %cast_6 = memref.cast %subview_1 : memref<1024x?xf16, strided<[?, 1]>, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_7 = memref.cast %subview_5 : memref<?x1024xf16, strided<[1024, 1]>, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      func.call @transpose_2d_with_last_axis_half(%cast_6, %cast_7) : (memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>) -> ()
      hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      %collapse_shape = memref.collapse_shape %subview_5 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1]>, #hivm.address_space<ub>> into memref<?xf16, strided<[1]>, #hivm.address_space<ub>>
      %collapse_shape_8 = memref.collapse_shape %subview_3 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
      hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      %cast_9 = memref.cast %collapse_shape : memref<?xf16, strided<[1]>, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_10 = memref.cast %collapse_shape_8 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_9, %cast_10, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %8 = hivm.hir.pointer_cast(%c0_i64) : memref<98272xi8, #hivm.address_space<ub>>
      %view_11 = memref.view %8[%c0][%4] : memref<98272xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_12 = memref.collapse_shape %view_11 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %cast_13 = memref.cast %collapse_shape_8 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_14 = memref.cast %collapse_shape_12 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_half(%cast_13, %cast_14, %c0_i32, %cst, %c0) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      %cast_15 = memref.cast %collapse_shape_12 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_16 = memref.cast %collapse_shape_8 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_15, %cast_16, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    } {__tiled_for___3, pipeline.veconly}
    hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    hivm.hir.pipe_barrier[<PIPE_ALL>]
    return
  }
}
