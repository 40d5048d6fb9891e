#map = affine_map<()[s0] -> (-s0 + 34)>
#map1 = affine_map<()[s0, s1] -> (s0 * 31 + s1 * 31)>
#map2 = affine_map<()[s0, s1] -> (s0 * -31 - s1 * 31 + 1024, 31)>
module attributes {dlti.target_system_spec = #dlti.target_system_spec<"NPU" : #hacc.target_device_spec<#dlti.dl_entry<"AI_CORE_COUNT", 24 : i32>, #dlti.dl_entry<"CUBE_CORE_COUNT", 24 : i32>, #dlti.dl_entry<"VECTOR_CORE_COUNT", 48 : i32>, #dlti.dl_entry<"UB_SIZE", 1572864 : i32>, #dlti.dl_entry<"L1_SIZE", 4194304 : i32>, #dlti.dl_entry<"L0A_SIZE", 524288 : i32>, #dlti.dl_entry<"L0B_SIZE", 524288 : i32>, #dlti.dl_entry<"L0C_SIZE", 1048576 : i32>, #dlti.dl_entry<"UB_ALIGN_SIZE", 256 : i32>, #dlti.dl_entry<"L1_ALIGN_SIZE", 256 : i32>, #dlti.dl_entry<"L0C_ALIGN_SIZE", 4096 : i32>>>,   hivm.module_core_type = #hivm.module_core_type<MIX>} {
  func.func @matmul_single_outlined_0_0_get_tiling_struct_size_function() -> i64 attributes {hacc.function_kind = #hacc.function_kind<HOST>, hacc.host_func_type = #hacc.host_func_type<get_tiling_struct_size_function>} {
    %c0_i64 = arith.constant 0 : i64
    return %c0_i64 : i64
  }
  func.func @matmul_single_outlined_0_0_0(%arg0: memref<1024x1024xf32, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg1: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<output>, hacc.output_idx = #hacc.output_idx<0>}) attributes {enable_auto_mark_buffer_size, hacc.always_inline, hacc.block_dim = 24 : i64, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.get_tiling_struct_size_function = #hacc.get_tiling_struct_size_function<@matmul_single_outlined_0_0_get_tiling_struct_size_function>, hfusion.fusion_kind = #hfusion.fusion_kind<PURE_ELEMWISE>, hivm.func_core_type = #hivm.func_core_type<AIV>, hivm.storage_aligned} {
    %cst = arith.constant 0.000000e+00 : f16
    %cst_0 = arith.constant 0.000000e+00 : f32
    %c0_i32 = arith.constant 0 : i32
    %c131008_i64 = arith.constant 131008 : i64
    %c0_i64 = arith.constant 0 : i64
    %c24 = arith.constant 24 : index
    %c0 = arith.constant 0 : index
    %0 = hivm.hir.get_block_idx -> i64
    %1 = arith.index_cast %0 : i64 to index
    %2 = affine.apply #map()[%1]
    scf.for %arg2 = %c0 to %2 step %c24 {
      %3 = affine.apply #map1()[%1, %arg2]
      %4 = affine.min #map2()[%1, %arg2]
      %subview = memref.subview %arg0[%3, 0] [%4, 1024] [1, 1] : memref<1024x1024xf32, #hivm.address_space<gm>> to memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %5 = hivm.hir.pointer_cast(%c0_i64) : memref<131008xi8, #hivm.address_space<ub>>
      %view = memref.view %5[%c0][%4] : memref<131008xi8, #hivm.address_space<ub>> to memref<?x1024xf32, #hivm.address_space<ub>>
      %collapse_shape = memref.collapse_shape %subview [[0, 1]] : memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>>
      %collapse_shape_1 = memref.collapse_shape %view [[0, 1]] : memref<?x1024xf32, #hivm.address_space<ub>> into memref<?xf32, #hivm.address_space<ub>>
      %cast = memref.cast %collapse_shape : memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_2 = memref.cast %collapse_shape_1 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_float(%cast, %cast_2, %c0_i32, %cst_0, %c0) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f32, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %subview_3 = memref.subview %arg1[%3, 0] [%4, 1024] [1, 1] : memref<1024x1024xf16, #hivm.address_space<gm>> to memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %6 = hivm.hir.pointer_cast(%c0_i64) : memref<65504xi8, #hivm.address_space<ub>>
      %view_4 = memref.view %6[%c0][%4] : memref<65504xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_5 = memref.collapse_shape %view_4 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %cast_6 = memref.cast %collapse_shape_1 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_7 = memref.cast %collapse_shape_5 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vcast_float_to_half_1d_with_mode(%cast_6, %cast_7, %c0_i32) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      %collapse_shape_8 = memref.collapse_shape %subview_3 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
      hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.pipe_barrier[<PIPE_MTE3>]
      %cast_9 = memref.cast %collapse_shape_5 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_10 = memref.cast %collapse_shape_8 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_9, %cast_10, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %7 = hivm.hir.pointer_cast(%c131008_i64) : memref<65504xi8, #hivm.address_space<ub>>
      %view_11 = memref.view %7[%c0][%4] : memref<65504xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
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
    } {__tiled_for___3, pipeline.veconly}
    return
  }
  func.func @matmul_infer_workspace_shape_function(%arg0: memref<1024x1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg1: memref<1024x1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg2: memref<1024x1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<2>}) -> index attributes {hacc.function_kind = #hacc.function_kind<HOST>, hacc.host_func_type = #hacc.host_func_type<infer_workspace_shape_function>} {
    %c1048576 = arith.constant 1048576 : index
    return %c1048576 : index
  }
  func.func @matmul_mix_aic(%arg0: i64 {hacc.arg_type = #hacc.arg_type<ffts_base_address>}, %arg1: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg2: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg3: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<2>}, %arg4: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<output>, hacc.output_idx = #hacc.output_idx<0>}, %arg5: memref<1048576xf32, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<workspace>}) attributes {enable_auto_mark_buffer_size, hacc.entry, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.infer_workspace_shape_function = #hacc.infer_workspace_shape_function<@matmul_infer_workspace_shape_function>, hfusion.fusion_kind = #hfusion.fusion_kind<SHALLOW_CV>, hivm.func_core_type = #hivm.func_core_type<AIC>, hivm.part_of_mix, hivm.storage_aligned} {
    hivm.hir.set_ffts_base_addr %arg0
    hivm.hir.set_mask_norm
    %reinterpret_cast = memref.reinterpret_cast %arg5 to offset: [0], sizes: [1024, 1024], strides: [1024, 1] : memref<1048576xf32, #hivm.address_space<gm>> to memref<1024x1024xf32, strided<[1024, 1]>, #hivm.address_space<gm>>
    %cast = memref.cast %arg1 : memref<1024x1024xf16, #hivm.address_space<gm>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>
    %cast_0 = memref.cast %arg2 : memref<1024x1024xf16, #hivm.address_space<gm>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>
    %cast_1 = memref.cast %reinterpret_cast : memref<1024x1024xf32, strided<[1024, 1]>, #hivm.address_space<gm>> to memref<?x?xf32, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>
    call @matmul_Xbias_Xdescale_XtransposeA_XtransposeB_TAhalf_TBhalf_TCfloat(%cast, %cast_0, %cast_1) : (memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf32, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>) -> ()
    hivm.hir.pipe_barrier[<PIPE_ALL>]
    return
  }
  func.func private @load_gm_to_ubuf_1d_float(memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f32, index) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vcast_float_to_half_1d_with_mode(memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @store_ubuf_to_gm_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @load_gm_to_ubuf_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @matmul_Xbias_Xdescale_XtransposeA_XtransposeB_TAhalf_TBhalf_TCfloat(memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf32, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIC>, llvm.emit_c_interface}
  func.func @matmul_mix_aiv(%arg0: i64 {hacc.arg_type = #hacc.arg_type<ffts_base_address>}, %arg1: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg2: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg3: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<2>}, %arg4: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<output>, hacc.output_idx = #hacc.output_idx<0>}, %arg5: memref<1048576xf32, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<workspace>}) attributes {enable_auto_mark_buffer_size, hacc.entry, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.infer_workspace_shape_function = #hacc.infer_workspace_shape_function<@matmul_infer_workspace_shape_function>, hfusion.fusion_kind = #hfusion.fusion_kind<SHALLOW_CV>, hivm.func_core_type = #hivm.func_core_type<AIV>, hivm.part_of_mix, hivm.storage_aligned} {
    %cst = arith.constant 0.000000e+00 : f16
    %cst_0 = arith.constant 0.000000e+00 : f32
    %c0_i32 = arith.constant 0 : i32
    %c131008_i64 = arith.constant 131008 : i64
    %c0_i64 = arith.constant 0 : i64
    %c0 = arith.constant 0 : index
    %c24 = arith.constant 24 : index
    hivm.hir.set_ffts_base_addr %arg0
    hivm.hir.set_mask_norm
    %reinterpret_cast = memref.reinterpret_cast %arg5 to offset: [0], sizes: [1024, 1024], strides: [1024, 1] : memref<1048576xf32, #hivm.address_space<gm>> to memref<1024x1024xf32, strided<[1024, 1]>, #hivm.address_space<gm>>
    %0 = hivm.hir.get_sub_block_idx -> i64
    %1 = arith.index_cast %0 : i64 to index
    %2 = arith.cmpi eq, %1, %c0 : index
    %3 = hivm.hir.get_block_idx -> i64
    %4 = arith.index_cast %3 : i64 to index
    %5 = affine.apply #map()[%4]
    scf.for %arg6 = %c0 to %5 step %c24 {
      %6 = affine.apply #map1()[%4, %arg6]
      %7 = affine.min #map2()[%4, %arg6]
      %subview = memref.subview %reinterpret_cast[%6, 0] [%7, 1024] [1, 1] : memref<1024x1024xf32, strided<[1024, 1]>, #hivm.address_space<gm>> to memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %8 = hivm.hir.pointer_cast(%c0_i64) : memref<131008xi8, #hivm.address_space<ub>>
      %view = memref.view %8[%c0][%7] : memref<131008xi8, #hivm.address_space<ub>> to memref<?x1024xf32, #hivm.address_space<ub>>
      %collapse_shape = memref.collapse_shape %subview [[0, 1]] : memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>>
      %collapse_shape_1 = memref.collapse_shape %view [[0, 1]] : memref<?x1024xf32, #hivm.address_space<ub>> into memref<?xf32, #hivm.address_space<ub>>
      %cast = memref.cast %collapse_shape : memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_2 = memref.cast %collapse_shape_1 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_float(%cast, %cast_2, %c0_i32, %cst_0, %c0) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f32, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %subview_3 = memref.subview %arg4[%6, 0] [%7, 1024] [1, 1] : memref<1024x1024xf16, #hivm.address_space<gm>> to memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %9 = hivm.hir.pointer_cast(%c0_i64) : memref<65504xi8, #hivm.address_space<ub>>
      %view_4 = memref.view %9[%c0][%7] : memref<65504xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_5 = memref.collapse_shape %view_4 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %cast_6 = memref.cast %collapse_shape_1 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_7 = memref.cast %collapse_shape_5 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vcast_float_to_half_1d_with_mode(%cast_6, %cast_7, %c0_i32) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      scf.if %2 {
        %collapse_shape_15 = memref.collapse_shape %subview_3 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
        hivm.hir.pipe_barrier[<PIPE_MTE3>]
        %cast_16 = memref.cast %collapse_shape_5 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
        %cast_17 = memref.cast %collapse_shape_15 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
        func.call @store_ubuf_to_gm_1d_half(%cast_16, %cast_17, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      }
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %10 = hivm.hir.pointer_cast(%c131008_i64) : memref<65504xi8, #hivm.address_space<ub>>
      %view_8 = memref.view %10[%c0][%7] : memref<65504xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_9 = memref.collapse_shape %subview_3 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
      %collapse_shape_10 = memref.collapse_shape %view_8 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %cast_11 = memref.cast %collapse_shape_9 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_12 = memref.cast %collapse_shape_10 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_half(%cast_11, %cast_12, %c0_i32, %cst, %c0) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      %cast_13 = memref.cast %collapse_shape_10 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_14 = memref.cast %collapse_shape_9 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_13, %cast_14, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
    } {__tiled_for___3, pipeline.veconly}
    hivm.hir.pipe_barrier[<PIPE_ALL>]
    return
  }
}
