"""The diffusion model: BasicSR's training, validation and test around the two stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from os import path as osp
from typing import Any

import numpy as np
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataloader, build_dataset
from basicsr.losses import build_loss
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import Tensor, nn
from tqdm import tqdm

from c2fdft_arch.baselines.noise_predictor import check_predicts_noise
from c2fdft_arch.common.hardware import has_fast_bf16
from c2fdft_arch.common.option_parsing import OptionError, parse_section
from c2fdft_arch.common.registry_lookup import find_registered
from c2fdft_arch.inference.memory_plan import MemoryBudgetError
from c2fdft_model.checkpointing.checkpointing import Resumable
from c2fdft_model.data.training_clock import training_clock
from c2fdft_model.diffusion.named_noise import seed_for
from c2fdft_model.diffusion.noise_schedule import antithetic_timesteps
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.evaluation.perceptual import check_metrics
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import WeightsError, load_into
from c2fdft_model.training import distributed, training_log
from c2fdft_model.training.allocator import disable_malloc_trim, give_back_freed_memory
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR
from c2fdft_model.training.options import TrainOptions
from c2fdft_model.training.stages import CoarseStage, FineStage, mixup
from c2fdft_model.training.step import (
    accumulate_gradients,
    fused_if_possible,
    gradient_norm,
    step_if_finite,
)
from c2fdft_model.validation.options import ValidationOptions
from c2fdft_model.validation.previews import strip
from c2fdft_model.validation.validation import (
    ImageResult,
    budget_error,
    check_memory_budget,
    mean_values,
    record_of_best,
    show_strips,
    show_validation,
    validate_shared,
)


@MODEL_REGISTRY.register()
class C2FDFTModel(Resumable, SRModel):
    """A noise-prediction network trained in two stages, `train: stage: coarse | fine`.

    `network_g` is any network that maps (cat(degraded, noisy) (B, 6, H, W) in [-1, 1], timesteps
    (B,)) to the predicted noise (B, 3, H, W). Batches are BasicSR's: `lq` and `gt` (B, 3, H, W)
    RGB in [0, 1], `lq_path`, `gt_path`.

    Raises OptionError, before anything is built, for options that cannot be.
    """

    train_options: TrainOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt['is_train']:
            self.train_options = parse_section(TrainOptions, opt.get('train'), 'train')
            self.opt = opt
            self.describe_run()
        self.val_options = parse_section(ValidationOptions, opt.get('val'), 'val')
        check_metrics((opt.get('val') or {}).get('metrics'))
        self.process = build_process(
            parse_section(DiffusionOptions, opt.get('diffusion'), 'diffusion')
        )
        if 'network_d' in opt:
            raise OptionError(
                'network_d: C2FDFTModel has no adversarial loss; remove network_d, or use one of '
                'the GAN models of BasicSR.'
            )
        find_registered(ARCH_REGISTRY, opt['network_g'].get('type'), 'network_g')
        self.image_names: list[str] = []
        self.numbers: dict[str, Tensor] = {}
        self.validated: dict[str, int] = {}
        self.not_shown: list[partial[None]] = []
        super().__init__(opt)

    # --- set-up -------------------------------------------------------------------------------

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Check and move to the device only: it is the stage that gets wrapped, not the network."""
        check_predicts_noise(net, self.opt['network_g']['type'])
        return net.to(self.device)

    def find_architecture(self, name: str) -> Callable[..., Any] | None:
        """What builds a network of this type; None if it is not registered."""
        try:
            return find_registered(ARCH_REGISTRY, name, 'network_g')
        except OptionError:
            return None

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Load weights; the log says which. `param_key: ~` takes averaged weights if there are any.

        Raises WeightsError for a file that is no checkpoint, or of another network; on resuming,
        ResumeError naming the options of network_g that differ.
        """
        log, network = get_root_logger().info, self.get_bare_model(net)
        if self.is_train and self.opt['path'].get('resume_state'):
            self.load_resumed(network, load_path, param_key or 'params', strict, log)
            return
        try:
            load_into(network, load_path, param_key, strict, log)
        except WeightsError as error:
            raise WeightsError(f'path: pretrain_network_g: {error}') from error

    def init_training_settings(self) -> None:
        """Build the stage, the optimiser, the schedule and the averaged weights."""
        if self.device.type == 'cpu':
            disable_malloc_trim()
        self.net_g.train()
        data_sets = self.opt['datasets'].items()
        check_memory_budget(
            self.net_g, self.val_options, [d for key, d in data_sets if key.startswith('val')]
        )
        self._warn_of_missing_coarse_weights()
        self._warn_of_slow_bf16()
        self._set_block_checkpoints()
        self.stage = distributed.wrap(
            self._build_stage(),
            self.device,
            self.opt['num_gpu'],
            find_unused_parameters=self.opt.get('find_unused_parameters', False),
        )
        # After the stage: distributing it gives every rank the weights of rank 0.
        self._init_ema()
        self.setup_optimizers()
        self.setup_schedulers()
        self.trained = [p for p in self.net_g.parameters() if p.requires_grad]
        self.prepare_saving()
        for line in training_log.schedule_lines(self.opt, self.train_options.accumulate):
            get_root_logger().info(line)

    def _warn_of_missing_coarse_weights(self) -> None:
        if self.opt['path'].get('pretrain_network_g'):
            return
        if self.train_options.stage == 'coarse':
            get_root_logger().info(
                'No weights loaded (path: pretrain_network_g is not set): a random start.'
            )
        else:
            get_root_logger().warning(
                'train: stage: fine starts from untrained weights, since path: pretrain_network_g '
                'is not set. Set it to the network of the coarse stage, e.g. '
                'experiments/<name of the coarse run>/models/net_g_latest.pth.'
            )

    def _warn_of_slow_bf16(self) -> None:
        if self.train_options.amp == 'bf16' and not has_fast_bf16(self.device.type):
            get_root_logger().warning(
                f'train: amp: bf16: this {self.device.type.upper()} does not multiply bfloat16 in '
                'hardware: amp: off is as fast or faster (on a CPU DFT computes in float32 anyway).'
            )

    def _set_block_checkpoints(self) -> None:
        if self.train_options.checkpoint != 'blocks':
            return
        if not hasattr(self.net_g, 'checkpoint_blocks'):
            raise OptionError(
                f'train: checkpoint: blocks is not possible for network_g: '
                f'{type(self.net_g).__name__}; allowed here are none and, with stage: fine, steps.'
            )
        self.net_g.checkpoint_blocks = True

    def _init_ema(self) -> None:
        self.ema_decay = self.train_options.ema_decay
        self.average: ModelEMA | None = None
        if self.ema_decay == 0:
            return
        self.net_g_ema = build_network(self.opt['network_g']).to(self.device)
        self.net_g_ema.requires_grad_(False)
        if self.opt['path'].get('resume_state'):
            load_path = self.opt['path']['pretrain_network_g']
            strict = self.opt['path'].get('strict_load_g', True)
            self.load_network(self.net_g_ema, load_path, strict, 'params_ema')
        else:
            # The average begins where training does, whichever weights were loaded.
            self.net_g_ema.load_state_dict(self.net_g.state_dict())
        self.net_g_ema.eval()
        self.average = ModelEMA(self.net_g_ema, self.net_g, self.ema_decay)
        get_root_logger().info(f'Averaged weights (EMA) with decay {self.ema_decay}.')

    def _build_stage(self) -> nn.Module:
        options = self.train_options
        settings = {'bf16': options.amp == 'bf16', 'compiled': options.compile}
        if options.stage == 'coarse':
            return CoarseStage(self.net_g, self.process, self._loss(options.pixel_opt), **settings)
        signed = {'l_pix': options.pixel_opt}
        unit = {'l_ssim': options.ssim_opt, 'l_percep': options.perceptual_opt}
        return FineStage(
            self.net_g,
            self.process,
            {name: self._loss(opt) for name, opt in signed.items() if opt},
            {name: self._loss(opt) for name, opt in unit.items() if opt},
            grad_steps=options.grad_steps,
            checkpoint=options.checkpoint == 'steps',
            **settings,
        )

    def _loss(self, loss_opt: Any) -> nn.Module:
        return build_loss(dict(loss_opt)).to(self.device)

    def get_optimizer(self, optim_type: str, params: list, lr: float, **kwargs: Any) -> Any:
        """BasicSR's optimisers, Adam and AdamW in their fused form."""
        if optim_type in ('Adam', 'AdamW'):
            return fused_if_possible(getattr(torch.optim, optim_type), params, lr=lr, **kwargs)
        return super().get_optimizer(optim_type, params, lr, **kwargs)

    def setup_schedulers(self) -> None:
        """BasicSR's schedules and `CosineAnnealingRestartCyclicLR`."""
        scheduler_opt = dict(self.train_options.scheduler)
        if scheduler_opt.pop('type', None) != 'CosineAnnealingRestartCyclicLR':
            super().setup_schedulers()
            return
        for optimizer in self.optimizers:
            self.schedulers.append(CosineAnnealingRestartCyclicLR(optimizer, **scheduler_opt))

    # --- training -----------------------------------------------------------------------------

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """BasicSR's, with which an iteration begins."""
        missed, self.missed_validations = self.missed_validations, ()
        for key in missed:
            self._repeat_validation(self.opt['datasets'][key])
        self.begin_iteration()
        super().update_learning_rate(current_iter, warmup_iter=warmup_iter)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch of BasicSR. Raises RuntimeError for a batch of another iteration."""
        if self.is_train:
            training_clock.check(data)
        self._to_device(data)
        self.image_names = [osp.splitext(osp.basename(p))[0] for p in data.get('lq_path', [])]

    def _to_device(self, data: dict[str, Any]) -> None:
        # Unlike BasicSR's own, this does not wait for the device.
        self.lq = data['lq'].to(self.device, non_blocking=True)
        if 'gt' in data:
            self.gt = data['gt'].to(self.device, non_blocking=True)

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of the optimiser in the stage's loss, skipped if anything is not finite."""
        options = self.train_options
        self.throughput.add(len(self.gt))
        inputs = self._stage_inputs(current_iter)
        self.optimizer_g.zero_grad(set_to_none=True)
        terms = accumulate_gradients(self.stage, inputs, options.accumulate)
        norm = gradient_norm(self.trained, options.grad_clip if options.use_grad_clip else None)
        self.numbers = {**terms, 'grad_norm': norm.detach()}
        flags = self.guard.check(self.numbers, stop=self.interruption.requested)
        step_if_finite(flags[0], self.optimizer_g, self.average)
        self.iteration = current_iter
        self.batch_shape = tuple(self.gt.shape)
        lrs = self.get_current_learning_rate()
        self.guard.record(current_iter, self.numbers, flags, lrs, self.image_names)
        if current_iter % self.opt['logger']['print_freq']:
            self.end_iteration()

    def _stage_inputs(self, current_iter: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, noise and timesteps: functions of (seed, rank, iteration) alone."""
        name = f'rank {self.opt["rank"]}, iteration {current_iter}'
        seed = seed_for(name, self.opt['manual_seed'])
        # For whatever draws without a generator: dropout in a network, noise with eta above 0.
        torch.manual_seed(seed)
        lq, gt = self.lq, self.gt
        mixing = self.train_options.mixing_augs
        if mixing.mixup:
            rng = np.random.default_rng(seed)
            lq, gt = mixup(lq, gt, mixing.mixup_beta, mixing.use_identity, rng)
        generator = torch.Generator().manual_seed(seed)
        t = antithetic_timesteps(len(gt), self.process.num_timesteps, generator)
        t = t.to(self.device, non_blocking=True)
        noise_generator = torch.Generator(self.device).manual_seed(seed)
        eps = torch.randn(gt.shape, generator=noise_generator, device=self.device)
        return lq, gt, eps, t

    def get_current_log(self) -> OrderedDict[str, float]:
        """The numbers of the last iteration, losses averaged over the ranks.

        Read from the device here and not in every iteration, which would make it wait.
        """
        return training_log.line_numbers(
            self.reduce_loss_dict(OrderedDict(self.numbers)),
            self.opt,
            self.iteration,
            self.batch_shape,
            self.get_current_learning_rate()[0],
            self.throughput.read() * self.opt['world_size'],
            self.guard.skipped,
        )

    # --- validation and test ------------------------------------------------------------------

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """Validate or test on all ranks, each with its share of the images.

        Returns a list of ImageResult, the same in all of them.
        """
        dataset = dataloader.dataset
        name = dataset.opt['name']
        if self.is_train:
            self.end_iteration()
            self.throughput.pause()
            # BasicSR counts the validation at the end as one of an iteration more.
            current_iter = min(current_iter, self.iteration)

        def evaluate(index: int, data: dict[str, Any]) -> ImageResult:
            shown = self.is_train and index < self.val_options.strips
            return self._evaluate(index, data, name, current_iter, save_img, shown)

        hidden = not self.val_options.pbar or self.opt['rank'] != 0
        progress = partial(tqdm, unit='image', disable=hidden)
        try:
            results = validate_shared(dataset, evaluate, progress)
        except OptionError:
            if self.is_train:
                self.save_unless_saved()
            raise
        metrics = self.opt['val'].get('metrics')
        if metrics:
            self.metric_results = mean_values(results, metrics)
            if self.is_train:
                self._keep_best(name, current_iter)
            self._log_validation_metric_values(current_iter, name, tb_logger)
        if tb_logger is not None:
            for show in self.not_shown:
                show(tb_logger)
            self.not_shown = []
            show_strips(results, f'strips/{name}', current_iter, tb_logger)
        if self.is_train:
            if self.device.type == 'cpu':
                give_back_freed_memory()  # whole images take more than training will
            self.throughput.go_on()
        return results

    nondist_validation = dist_validation

    def _repeat_validation(self, dataset_opt: dict[str, Any]) -> None:
        """Validate after the iteration that was resumed, which the interrupted run did not.

        BasicSR hands out its TensorBoard writer at its own validations only: the next one shows
        this one too.
        """
        name = dataset_opt['name']
        get_root_logger().info(
            f'The validation with {name} after iteration {self.iteration:,} was '
            'interrupted and is made up for.'
        )
        loader = build_dataloader(build_dataset(dataset_opt), dataset_opt, dist=self.opt['dist'])
        results = self.dist_validation(loader, self.iteration, None, self.val_options.save_img)
        if self.opt['rank'] == 0 and self.opt['logger'].get('use_tb_logger'):
            self.not_shown.append(
                partial(show_validation, results, self.metric_results, name, self.iteration)
            )

    def _evaluate(
        self,
        index: int,
        data: dict[str, Any],
        dataset_name: str,
        current_iter: int | str,
        save_img: bool,
        with_strip: bool,
    ) -> ImageResult:
        self._to_device(data)
        name = osp.splitext(osp.basename(data['lq_path'][0]))[0]
        self.image_names = [name]
        try:
            self.test()
        except MemoryBudgetError as error:
            raise budget_error(self.val_options, data['lq_path'][0], error) from error
        restored = tensor2img([self.output.cpu()])
        pair = {'img': restored}
        shown = [self.lq, self.output]
        if 'gt' in data:
            pair['img2'] = tensor2img([self.gt.cpu()])
            shown.append(self.gt)
        if save_img:
            imwrite(restored, self._image_path(name, dataset_name, current_iter))
        metrics = self.opt['val'].get('metrics') or {}
        values = {key: float(calculate_metric(pair, opt)) for key, opt in metrics.items()}
        return ImageResult(index, name, values, strip(shown) if with_strip else None)

    def _image_path(self, name: str, dataset_name: str, current_iter: int | str) -> str:
        """Where BasicSR's SRModel writes a restored image."""
        folder = self.opt['path']['visualization']
        if self.is_train:
            return osp.join(folder, name, f'{name}_{current_iter}.png')
        suffix = self.val_options.suffix or self.opt['name']
        return osp.join(folder, dataset_name, f'{name}_{suffix}.png')

    def _keep_best(self, dataset_name: str, current_iter: int) -> None:
        self._initialize_best_metric_results(dataset_name)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(dataset_name, metric, value, current_iter)
        self.validated[dataset_name] = current_iter
        record = record_of_best(
            self.best_metric_results, self.val_options.best_metric, self.validated
        )
        if self.opt['rank'] == 0:
            is_best = record['dataset'] == dataset_name and record['iteration'] == current_iter
            self.checkpoints.save_best(self.network_content() if is_best else None, record)

    def test(self) -> None:
        """Restore `lq` with the averaged weights, if there are any, into `output`."""
        network: nn.Module = getattr(self, 'net_g_ema', self.net_g)
        was_training = network.training
        network.eval()
        self.output = restore(
            network,
            self.lq,
            process=self.process,
            noise_name=self.image_names or '',
            seed=self.val_options.noise_seed,
            samples=self.val_options.samples,
            precision=self.val_options.precision,
            memory_budget_mb=self.val_options.memory_budget_mb,
        )
        network.train(was_training)
