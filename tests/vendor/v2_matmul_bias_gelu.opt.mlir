#map = affine_map<()[s0] -> (-s0 + 45)>
#map1 = affine_map<()[s0, s1] -> (s0 * 23 + s1 * 23)>
#map2 = affine_map<()[s0, s1] -> (s0 * -23 - s1 * 23 + 1024, 23)>
module attributes {dlti.target_system_spec = #dlti.target_system_spec<"NPU" : #hacc.target_device_spec<#dlti.dl_entry<"AI_CORE_COUNT", 24 : i32>, #dlti.dl_entry<"CUBE_CORE_COUNT", 24 : i32>, #dlti.dl_entry<"VECTOR_CORE_COUNT", 48 : i32>, #dlti.dl_entry<"UB_SIZE", 1572864 : i32>, #dlti.dl_entry<"L1_SIZE", 4194304 : i32>, #dlti.dl_entry<"L0A_SIZE", 524288 : i32>, #dlti.dl_entry<"L0B_SIZE", 524288 : i32>, #dlti.dl_entry<"L0C_SIZE", 1048576 : i32>, #dlti.dl_entry<"UB_ALIGN_SIZE", 256 : i32>, #dlti.dl_entry<"L1_ALIGN_SIZE", 256 : i32>, #dlti.dl_entry<"L0C_ALIGN_SIZE", 4096 : i32>>>,   hivm.module_core_type = #hivm.module_core_type<MIX>} {
  func.func @mm_bias_gelu_0_get_tiling_struct_size_function() -> i64 attributes {hacc.function_kind = #hacc.function_kind<HOST>, hacc.host_func_type = #hacc.host_func_type<get_tiling_struct_size_function>} {
    %c0_i64 = arith.constant 0 : i64
    return %c0_i64 : i64
  }
  func.func @mm_bias_gelu_0_0(%arg0: memref<1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg1: memref<1024x1024xf32, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg2: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<output>, hacc.output_idx = #hacc.output_idx<0>}) attributes {enable_auto_mark_buffer_size, hacc.always_inline, hacc.block_dim = 24 : i64, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.get_tiling_struct_size_function = #hacc.get_tiling_struct_size_function<@mm_bias_gelu_0_get_tiling_struct_size_function>, hfusion.fusion_kind = #hfusion.fusion_kind<LAST_AXIS_PBR>, hivm.func_core_type = #hivm.func_core_type<AIV>, hivm.storage_aligned} {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant 0.000000e+00 : f16
    %c0_i32 = arith.constant 0 : i32
    %c100288_i64 = arith.constant 100288 : i64
    %c2048_i64 = arith.constant 2048 : i64
    %c24 = arith.constant 24 : index
    %c0 = arith.constant 0 : index
    %cst_1 = arith.constant -1.702150e+00 : f16
    %cst_2 = arith.constant 1.000000e+00 : f16
    %c0_i64 = arith.constant 0 : i64
    %0 = hivm.hir.pointer_cast(%c0_i64) : memref<1024xf16, #hivm.address_space<ub>>
    %cast = memref.cast %arg0 : memref<1024xf16, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
    %cast_3 = memref.cast %0 : memref<1024xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
    call @load_gm_to_ubuf_1d_half(%cast, %cast_3, %c0_i32, %cst_0, %c0) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
    %expand_shape = memref.expand_shape %0 [[0, 1]] output_shape [1, 1024] : memref<1024xf16, #hivm.address_space<ub>> into memref<1x1024xf16, #hivm.address_space<ub>>
    %1 = hivm.hir.get_block_idx -> i64
    %2 = arith.index_cast %1 : i64 to index
    %3 = affine.apply #map()[%2]
    hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    scf.for %arg3 = %c0 to %3 step %c24 {
      %4 = affine.apply #map1()[%2, %arg3]
      %5 = affine.min #map2()[%2, %arg3]
      %subview = memref.subview %arg1[%4, 0] [%5, 1024] [1, 1] : memref<1024x1024xf32, #hivm.address_space<gm>> to memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %6 = hivm.hir.pointer_cast(%c2048_i64) : memref<98240xi8, #hivm.address_space<ub>>
      %view = memref.view %6[%c0][%5] : memref<98240xi8, #hivm.address_space<ub>> to memref<?x1024xf32, #hivm.address_space<ub>>
      %collapse_shape = memref.collapse_shape %subview [[0, 1]] : memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>>
      %collapse_shape_4 = memref.collapse_shape %view [[0, 1]] : memref<?x1024xf32, #hivm.address_space<ub>> into memref<?xf32, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
      %cast_5 = memref.cast %collapse_shape : memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_6 = memref.cast %collapse_shape_4 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_float(%cast_5, %cast_6, %c0_i32, %cst, %c0) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f32, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %subview_7 = memref.subview %arg2[%4, 0] [%5, 1024] [1, 1] : memref<1024x1024xf16, #hivm.address_space<gm>> to memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %7 = hivm.hir.pointer_cast(%c2048_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_8 = memref.view %7[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_9 = memref.collapse_shape %view_8 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %cast_10 = memref.cast %collapse_shape_4 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_11 = memref.cast %collapse_shape_9 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vcast_float_to_half_1d_with_mode(%cast_10, %cast_11, %c0_i32) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32) -> ()
      %8 = hivm.hir.pointer_cast(%c2048_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_12 = memref.view %8[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %9 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_13 = memref.cast %view_8 : memref<?x1024xf16, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_14 = memref.cast %expand_shape : memref<1x1024xf16, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_15 = memref.cast %view_12 : memref<?x1024xf16, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_16 = memref.cast %9 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vadd_2d_half(%cast_13, %cast_14, %cast_15, %cast_16) : (memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %10 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_17 = memref.view %10[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_18 = memref.collapse_shape %view_12 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      %collapse_shape_19 = memref.collapse_shape %view_17 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %11 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_20 = memref.cast %collapse_shape_18 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_21 = memref.cast %collapse_shape_19 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_22 = memref.cast %11 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vmuls_vs_1d_half(%cast_20, %cst_1, %cast_21, %cast_22) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, f16, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %12 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_23 = memref.view %12[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_24 = memref.collapse_shape %view_23 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %13 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_25 = memref.cast %collapse_shape_19 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_26 = memref.cast %collapse_shape_24 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_27 = memref.cast %13 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vexp_1d_half(%cast_25, %cast_26, %cast_27) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %14 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_28 = memref.view %14[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_29 = memref.collapse_shape %view_28 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %15 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_30 = memref.cast %collapse_shape_24 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_31 = memref.cast %collapse_shape_29 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_32 = memref.cast %15 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vadds_vs_1d_half(%cast_30, %cst_2, %cast_31, %cast_32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, f16, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %16 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_33 = memref.view %16[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_34 = memref.collapse_shape %view_33 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %17 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_35 = memref.cast %collapse_shape_18 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_36 = memref.cast %collapse_shape_29 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_37 = memref.cast %collapse_shape_34 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_38 = memref.cast %17 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vdiv_1d_half(%cast_35, %cast_36, %cast_37, %cast_38) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      %collapse_shape_39 = memref.collapse_shape %subview_7 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
      hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      %cast_40 = memref.cast %collapse_shape_34 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_41 = memref.cast %collapse_shape_39 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_40, %cast_41, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %18 = hivm.hir.pointer_cast(%c2048_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_42 = memref.view %18[%c0][%5] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_43 = memref.collapse_shape %view_42 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %cast_44 = memref.cast %collapse_shape_39 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_45 = memref.cast %collapse_shape_43 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_half(%cast_44, %cast_45, %c0_i32, %cst_0, %c0) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      %cast_46 = memref.cast %collapse_shape_43 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_47 = memref.cast %collapse_shape_39 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_46, %cast_47, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    } {__tiled_for___3, pipeline.veconly}
    hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    return
  }
  func.func @mm_bias_gelu_infer_workspace_shape_function(%arg0: memref<1024x1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg1: memref<1024x1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg2: memref<1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<2>}, %arg3: memref<1024x1024xf16> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<3>}) -> index attributes {hacc.function_kind = #hacc.function_kind<HOST>, hacc.host_func_type = #hacc.host_func_type<infer_workspace_shape_function>} {
    %c1048576 = arith.constant 1048576 : index
    return %c1048576 : index
  }
  func.func @mm_bias_gelu_mix_aic(%arg0: i64 {hacc.arg_type = #hacc.arg_type<ffts_base_address>}, %arg1: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg2: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg3: memref<1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<2>}, %arg4: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<3>}, %arg5: memref<1048576xf32, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<workspace>}) attributes {enable_auto_mark_buffer_size, hacc.entry, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.infer_workspace_shape_function = #hacc.infer_workspace_shape_function<@mm_bias_gelu_infer_workspace_shape_function>, hfusion.fusion_kind = #hfusion.fusion_kind<SHALLOW_CV>, hivm.func_core_type = #hivm.func_core_type<AIC>, hivm.part_of_mix, hivm.storage_aligned} {
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
  func.func private @load_gm_to_ubuf_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @load_gm_to_ubuf_1d_float(memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f32, index) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vcast_float_to_half_1d_with_mode(memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vadd_2d_half(memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vmuls_vs_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, f16, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vexp_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vadds_vs_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, f16, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @vdiv_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @store_ubuf_to_gm_1d_half(memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIV>, llvm.emit_c_interface}
  func.func private @matmul_Xbias_Xdescale_XtransposeA_XtransposeB_TAhalf_TBhalf_TCfloat(memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>, memref<?x?xf32, strided<[?, ?], offset: ?>, #hivm.address_space<gm>>) attributes {hacc.always_inline, hivm.func_core_type = #hivm.func_core_type<AIC>, llvm.emit_c_interface}
  func.func @mm_bias_gelu_mix_aiv(%arg0: i64 {hacc.arg_type = #hacc.arg_type<ffts_base_address>}, %arg1: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<0>}, %arg2: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<1>}, %arg3: memref<1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<2>}, %arg4: memref<1024x1024xf16, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<input>, hacc.input_idx = #hacc.input_idx<3>}, %arg5: memref<1048576xf32, #hivm.address_space<gm>> {hacc.arg_type = #hacc.arg_type<workspace>}) attributes {enable_auto_mark_buffer_size, hacc.entry, hacc.function_kind = #hacc.function_kind<DEVICE>, hacc.infer_workspace_shape_function = #hacc.infer_workspace_shape_function<@mm_bias_gelu_infer_workspace_shape_function>, hfusion.fusion_kind = #hfusion.fusion_kind<SHALLOW_CV>, hivm.func_core_type = #hivm.func_core_type<AIV>, hivm.part_of_mix, hivm.storage_aligned} {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant 0.000000e+00 : f16
    %c0_i32 = arith.constant 0 : i32
    %c100288_i64 = arith.constant 100288 : i64
    %c2048_i64 = arith.constant 2048 : i64
    %c0_i64 = arith.constant 0 : i64
    %cst_1 = arith.constant 1.000000e+00 : f16
    %cst_2 = arith.constant -1.702150e+00 : f16
    %c0 = arith.constant 0 : index
    %c24 = arith.constant 24 : index
    hivm.hir.set_ffts_base_addr %arg0
    hivm.hir.set_mask_norm
    %reinterpret_cast = memref.reinterpret_cast %arg5 to offset: [0], sizes: [1024, 1024], strides: [1024, 1] : memref<1048576xf32, #hivm.address_space<gm>> to memref<1024x1024xf32, strided<[1024, 1]>, #hivm.address_space<gm>>
    %0 = hivm.hir.pointer_cast(%c0_i64) : memref<1024xf16, #hivm.address_space<ub>>
    %cast = memref.cast %arg3 : memref<1024xf16, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
    %cast_3 = memref.cast %0 : memref<1024xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
    call @load_gm_to_ubuf_1d_half(%cast, %cast_3, %c0_i32, %cst_0, %c0) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
    %expand_shape = memref.expand_shape %0 [[0, 1]] output_shape [1, 1024] : memref<1024xf16, #hivm.address_space<ub>> into memref<1x1024xf16, #hivm.address_space<ub>>
    %1 = hivm.hir.get_sub_block_idx -> i64
    %2 = arith.index_cast %1 : i64 to index
    %3 = arith.cmpi eq, %2, %c0 : index
    %4 = hivm.hir.get_block_idx -> i64
    %5 = arith.index_cast %4 : i64 to index
    %6 = affine.apply #map()[%5]
    hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    scf.for %arg6 = %c0 to %6 step %c24 {
      %7 = affine.apply #map1()[%5, %arg6]
      %8 = affine.min #map2()[%5, %arg6]
      %subview = memref.subview %reinterpret_cast[%7, 0] [%8, 1024] [1, 1] : memref<1024x1024xf32, strided<[1024, 1]>, #hivm.address_space<gm>> to memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %9 = hivm.hir.pointer_cast(%c2048_i64) : memref<98240xi8, #hivm.address_space<ub>>
      %view = memref.view %9[%c0][%8] : memref<98240xi8, #hivm.address_space<ub>> to memref<?x1024xf32, #hivm.address_space<ub>>
      %collapse_shape = memref.collapse_shape %subview [[0, 1]] : memref<?x1024xf32, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>>
      %collapse_shape_4 = memref.collapse_shape %view [[0, 1]] : memref<?x1024xf32, #hivm.address_space<ub>> into memref<?xf32, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
      %cast_5 = memref.cast %collapse_shape : memref<?xf32, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_6 = memref.cast %collapse_shape_4 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_float(%cast_5, %cast_6, %c0_i32, %cst, %c0) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f32, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %subview_7 = memref.subview %arg4[%7, 0] [%8, 1024] [1, 1] : memref<1024x1024xf16, #hivm.address_space<gm>> to memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>>
      %10 = hivm.hir.pointer_cast(%c2048_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_8 = memref.view %10[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_9 = memref.collapse_shape %view_8 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_V>, <EVENT_ID0>]
      %cast_10 = memref.cast %collapse_shape_4 : memref<?xf32, #hivm.address_space<ub>> to memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_11 = memref.cast %collapse_shape_9 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vcast_float_to_half_1d_with_mode(%cast_10, %cast_11, %c0_i32) : (memref<?xf32, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32) -> ()
      %11 = hivm.hir.pointer_cast(%c2048_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_12 = memref.view %11[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %12 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_13 = memref.cast %view_8 : memref<?x1024xf16, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_14 = memref.cast %expand_shape : memref<1x1024xf16, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_15 = memref.cast %view_12 : memref<?x1024xf16, #hivm.address_space<ub>> to memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>
      %cast_16 = memref.cast %12 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vadd_2d_half(%cast_13, %cast_14, %cast_15, %cast_16) : (memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?x?xf16, strided<[?, ?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %13 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_17 = memref.view %13[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_18 = memref.collapse_shape %view_12 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      %collapse_shape_19 = memref.collapse_shape %view_17 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %14 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_20 = memref.cast %collapse_shape_18 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_21 = memref.cast %collapse_shape_19 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_22 = memref.cast %14 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vmuls_vs_1d_half(%cast_20, %cst_2, %cast_21, %cast_22) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, f16, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %15 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_23 = memref.view %15[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_24 = memref.collapse_shape %view_23 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %16 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_25 = memref.cast %collapse_shape_19 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_26 = memref.cast %collapse_shape_24 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_27 = memref.cast %16 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vexp_1d_half(%cast_25, %cast_26, %cast_27) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %17 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_28 = memref.view %17[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_29 = memref.collapse_shape %view_28 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %18 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_30 = memref.cast %collapse_shape_24 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_31 = memref.cast %collapse_shape_29 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_32 = memref.cast %18 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vadds_vs_1d_half(%cast_30, %cst_1, %cast_31, %cast_32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, f16, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      %19 = hivm.hir.pointer_cast(%c100288_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_33 = memref.view %19[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_34 = memref.collapse_shape %view_33 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.pipe_barrier[<PIPE_V>]
      %20 = hivm.hir.pointer_cast(%c0_i64) : memref<0xf16, #hivm.address_space<ub>>
      %cast_35 = memref.cast %collapse_shape_18 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_36 = memref.cast %collapse_shape_29 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_37 = memref.cast %collapse_shape_34 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_38 = memref.cast %20 : memref<0xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @vdiv_1d_half(%cast_35, %cast_36, %cast_37, %cast_38) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>) -> ()
      hivm.hir.set_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.wait_flag[<PIPE_V>, <PIPE_MTE3>, <EVENT_ID0>]
      scf.if %3 {
        %collapse_shape_46 = memref.collapse_shape %subview_7 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
        %cast_47 = memref.cast %collapse_shape_34 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
        %cast_48 = memref.cast %collapse_shape_46 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
        func.call @store_ubuf_to_gm_1d_half(%cast_47, %cast_48, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      }
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %21 = hivm.hir.pointer_cast(%c2048_i64) : memref<49120xi8, #hivm.address_space<ub>>
      %view_39 = memref.view %21[%c0][%8] : memref<49120xi8, #hivm.address_space<ub>> to memref<?x1024xf16, #hivm.address_space<ub>>
      %collapse_shape_40 = memref.collapse_shape %subview_7 [[0, 1]] : memref<?x1024xf16, strided<[1024, 1], offset: ?>, #hivm.address_space<gm>> into memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>>
      %collapse_shape_41 = memref.collapse_shape %view_39 [[0, 1]] : memref<?x1024xf16, #hivm.address_space<ub>> into memref<?xf16, #hivm.address_space<ub>>
      hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID0>]
      %cast_42 = memref.cast %collapse_shape_40 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      %cast_43 = memref.cast %collapse_shape_41 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      func.call @load_gm_to_ubuf_1d_half(%cast_42, %cast_43, %c0_i32, %cst_0, %c0) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, i32, f16, index) -> ()
      hivm.hir.set_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      hivm.hir.wait_flag[<PIPE_MTE2>, <PIPE_MTE3>, <EVENT_ID0>]
      %cast_44 = memref.cast %collapse_shape_41 : memref<?xf16, #hivm.address_space<ub>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>
      %cast_45 = memref.cast %collapse_shape_40 : memref<?xf16, strided<[1], offset: ?>, #hivm.address_space<gm>> to memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>
      func.call @store_ubuf_to_gm_1d_half(%cast_44, %cast_45, %c0_i32) : (memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<ub>>, memref<?xf16, strided<[?], offset: ?>, #hivm.address_space<gm>>, i32) -> ()
      hivm.hir.set_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    } {__tiled_for___3, pipeline.veconly}
    hivm.hir.wait_flag[<PIPE_MTE3>, <PIPE_MTE2>, <EVENT_ID1>]
    hivm.hir.pipe_barrier[<PIPE_ALL>]
    return
  }
}
