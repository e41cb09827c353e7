"""The diffusion model: BasicSR's training, validation and test around the two stages."""

import functools
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.losses import build_loss
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import Tensor, nn
from torch.utils.data import Dataset

from c2fdft_arch.baselines.noise_predictor import check_predicts_noise
from c2fdft_arch.common import distributed
from c2fdft_arch.common.option_parsing import parse_section
from c2fdft_arch.common.registry_lookup import check_network_options, constructor_in
from c2fdft_model.checkpointing.checkpointing import Checkpointing
from c2fdft_model.checkpointing.run_description import RunDescription
from c2fdft_model.data.dataset_options import MAX_UNREADABLE
from c2fdft_model.data.image_names import image_name
from c2fdft_model.data.training_clock import training_clock
from c2fdft_model.diffusion.named_noise import seed_for
from c2fdft_model.diffusion.options import DiffusionOptions, build_process
from c2fdft_model.evaluation.perceptual import check_metrics
from c2fdft_model.restoring.checkpoint import WeightsError, complete_from_weights
from c2fdft_model.restoring.description import contradictions, describe, provenance
from c2fdft_model.restoring.restoration import restore
from c2fdft_model.restoring.weights import load_into
from c2fdft_model.training import step
from c2fdft_model.training.allocator import disable_malloc_trim, give_back_freed_memory
from c2fdft_model.training.ema import ModelEMA
from c2fdft_model.training.lr_scheduler import CosineAnnealingRestartCyclicLR
from c2fdft_model.training.options import TrainOptions, check_no_discriminator
from c2fdft_model.training.set_up import (
    build_stage,
    report_start,
    warn_of_skip,
    zero_last_convolution,
)
from c2fdft_model.training.stages import stage_inputs
from c2fdft_model.training.training_log import TrainingLog
from c2fdft_model.training.unreadable import UNREADABLE_KEY, UnreadableImages
from c2fdft_model.validation.memory_budget import check_memory_budget
from c2fdft_model.validation.network_settings import check_network_settings
from c2fdft_model.validation.options import ValidationOptions
from c2fdft_model.validation.validation import ImageResult, Validator, mean_metrics


@MODEL_REGISTRY.register()
class C2FDFTModel(SRModel):
    """A diffusion network trained in two stages, `train: stage: coarse | fine`.

    `network_g` is any network that maps (cat(degraded, noisy) (B, 6, H, W) in [-1, 1], timesteps
    (B,)) to the predicted noise (B, 3, H, W), or what else `diffusion: prediction` names. Batches
    are BasicSR's: `lq` and `gt` (B, 3, H, W) RGB in [0, 1], `lq_path`, `gt_path`. The methods are
    BasicSR's, in the order of its calls.

    Raises OptionError, before anything is built, for options that cannot be.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt['is_train']:
            self.train_options = parse_section(TrainOptions, opt.get('train'), 'train')
            self.run = RunDescription(opt, ARCH_REGISTRY)
        else:
            complete_from_weights(opt, get_root_logger().info)
        self.val_options = parse_section(ValidationOptions, opt.get('val'), 'val')
        self.metrics = self.val_options.metrics or {}
        check_metrics(self.metrics)
        diffusion = parse_section(DiffusionOptions, opt.get('diffusion'), 'diffusion')
        self.process = build_process(diffusion)
        check_no_discriminator(opt)
        check_network_options(ARCH_REGISTRY, opt['network_g'])
        self.find_architecture = functools.partial(constructor_in, ARCH_REGISTRY)
        self.description = describe(opt, diffusion, self.find_architecture)
        self.image_names: list[str] = []
        self.missed_validations: list[str] = []
        self.validator = Validator(opt, self.val_options, self._evaluate)
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Check and move to the device only: it is the stage that gets wrapped, not the network."""
        check_predicts_noise(net, self.opt['network_g']['type'])
        if self.is_train and self.train_options.zero_init:
            zero_last_convolution(net)
        net = net.to(self.device)
        check_network_settings(net, self.process, self.val_options)
        return net

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Load weights; the log says which. `param_key: ~` takes averaged weights if there are any.

        Raises WeightsError for a file that is no checkpoint, or of another network; on resuming,
        ResumeError naming the options of network_g that differ.
        """
        logger = get_root_logger()
        if self.is_train and self.opt['path'].get('resume_state'):
            self.run.load_network(net, load_path, param_key or 'params', strict, logger.info)
            return
        try:
            checkpoint = load_into(net, load_path, param_key, strict, logger.info)
        except WeightsError as error:
            raise WeightsError(f'path: pretrain_network_g: {error}') from error
        saved = checkpoint.description
        logger.info(provenance(saved))
        for text in contradictions(saved, self.description, self.find_architecture):
            logger.warning(f'path: pretrain_network_g: {load_path}: {text}.')

    def init_training_settings(self) -> None:
        """Build what trains: stage, averaged weights, optimiser, schedule; and what saves them."""
        options, val = self.train_options, self.val_options
        if self.device.type == 'cpu':
            disable_malloc_trim()
        self.net_g.train()
        val_sets = [d for key, d in self.opt['datasets'].items() if key.startswith('val')]
        check_memory_budget(self.net_g, self.process, val, val_sets)
        warn_of_skip(self.process.prediction, getattr(self.net_g, 'skip', None))
        report_start(options, bool(self.opt['path'].get('pretrain_network_g')), self.device.type)
        stage = build_stage(options, self.net_g, self.process, build_loss, self.device)
        find_unused = self.opt.get('find_unused_parameters', False)
        self.stage = distributed.wrap(stage, self.device, self.opt['num_gpu'], find_unused)
        # After the stage: distributing it gives every rank the weights of rank 0.
        self.ema = self._build_ema(options) if options.ema_decay else None
        self.setup_optimizers()
        self.setup_schedulers()
        self.log = TrainingLog(self.opt)
        train_set = self.opt['datasets']['train']
        limit = train_set.get('max_unreadable', MAX_UNREADABLE)
        self.unreadable = UnreadableImages(limit, get_root_logger().warning)
        networks = {'params': self.net_g} | ({'params_ema': self.net_g_ema} if self.ema else {})
        self.checkpointing = Checkpointing(
            self.run, options, networks, self.optimizers, self.schedulers, self.log, val.best_metric
        )
        self.best_metric_results = self.checkpointing.best_results
        for line in self.log.schedule_lines(options.accumulate):
            get_root_logger().info(line)

    def _build_ema(self, options: TrainOptions) -> ModelEMA:
        self.net_g_ema = build_network(self.opt['network_g']).to(self.device)
        self.net_g_ema.requires_grad_(False).eval()
        path = self.opt['path']
        if path.get('resume_state'):
            strict = path.get('strict_load_g', True)
            self.load_network(self.net_g_ema, path['pretrain_network_g'], strict, 'params_ema')
        else:
            # The average begins where training does, whichever weights were loaded.
            self.net_g_ema.load_state_dict(self.net_g.state_dict())
        get_root_logger().info(f'Averaged weights (EMA) with decay {options.ema_decay}.')
        return ModelEMA(self.net_g_ema, self.net_g, options.ema_decay, options.ema_warmup)

    def get_optimizer(self, optim_type: str, params: list, lr: float, **kwargs: Any) -> Any:
        """PyTorch's optimisers, Adam and AdamW in their fused form."""
        if optim_type in ('Adam', 'AdamW'):
            return step.fused_if_possible(getattr(torch.optim, optim_type), params, lr=lr, **kwargs)
        return getattr(torch.optim, optim_type)(params, lr=lr, **kwargs)

    def setup_schedulers(self) -> None:
        """BasicSR's schedules and `CosineAnnealingRestartCyclicLR`."""
        arguments = dict(self.train_options.scheduler)
        if arguments.pop('type', None) != 'CosineAnnealingRestartCyclicLR':
            return super().setup_schedulers()
        for optimizer in self.optimizers:
            self.schedulers.append(CosineAnnealingRestartCyclicLR(optimizer, **arguments))

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Resume a training state. Raises ResumeError for one of another network or stage."""
        self.missed_validations = self.checkpointing.resume(resume_state, super().resume_training)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Begin an iteration: BasicSR calls this first in each."""
        while self.missed_validations:
            self._make_up_validation(self.opt['datasets'][self.missed_validations.pop(0)])
        self.checkpointing.begin_iteration(current_iter)
        super().update_learning_rate(current_iter, warmup_iter=warmup_iter)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch.

        Raises RuntimeError if it was loaded for another training iteration, ImageReadError after
        too many images that cannot be read.
        """
        training_clock.check(data)
        if self.is_train:
            self.unreadable.record(data.get(UNREADABLE_KEY, ()))
        # Unlike BasicSR's own, this does not wait for the device.
        self.lq = data['lq'].to(self.device, non_blocking=True)
        if 'gt' in data:
            self.gt = data['gt'].to(self.device, non_blocking=True)
        self.image_names = [image_name(path) for path in data.get('lq_path', [])]

    def optimize_parameters(self, current_iter: int) -> None:
        """One step of the optimiser in the stage's loss, skipped if anything is not finite."""
        options, guard = self.train_options, self.checkpointing.guard
        self.log.throughput.add(len(self.gt))
        rank, mixing = self.opt['rank'], options.mixing_augs
        seed = seed_for(f'rank {rank}, iteration {current_iter}', self.opt['manual_seed'])
        inputs = stage_inputs(self.lq, self.gt, self.process.num_timesteps, mixing, seed)
        self.optimizer_g.zero_grad(set_to_none=True)
        losses = step.accumulate_gradients(self.stage, inputs, options.accumulate)
        clip_to = options.grad_clip if options.use_grad_clip else None
        norm = step.gradient_norm(self.optimizer_g.param_groups[0]['params'], clip_to)
        self.losses = {**losses, 'grad_norm': norm.detach()}
        flags = guard.check(self.losses, stop=self.checkpointing.signals.requested)
        step.step_if_finite(flags[0], self.optimizer_g, self.ema, current_iter)
        lrs = self.get_current_learning_rate()
        guard.record(current_iter, self.losses, flags, lrs, self.image_names)
        self.checkpointing.signals.end_of_step()
        if current_iter % self.opt['logger']['print_freq']:
            self.checkpointing.end_iteration()

    def get_current_log(self) -> dict[str, float]:
        """The values of the last iteration, losses averaged over the ranks.

        Read from the device here and not in every iteration, which would make the host wait.
        """
        losses = self.reduce_loss_dict(self.losses)
        lr, skipped = self.get_current_learning_rate()[0], self.checkpointing.guard.skipped
        return self.log.line(losses, self.checkpointing.iteration, self.gt.shape, lr, skipped)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save a checkpoint and its training state; -1 is the end of the training."""
        self.checkpointing.save(epoch, current_iter)

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """Validate or test on all ranks; returns a list of ImageResult, the same in all of them."""
        if not self.is_train:
            return self._validate(dataloader.dataset, current_iter, tb_logger, save_img)
        # BasicSR counts the validation at the end as one of an iteration more.
        with self.checkpointing.between_iterations() as iteration:
            return self._validate(dataloader.dataset, iteration, tb_logger, save_img)

    nondist_validation = dist_validation

    def _validate(
        self, dataset: Dataset, current_iter: Any, tb_logger: Any, save_img: bool
    ) -> list[ImageResult]:
        name = dataset.opt['name']  # type: ignore[attr-defined]
        results = self.validator.run(dataset, current_iter, save_img)
        if self.metrics:
            self.metric_results = mean_metrics(results, self.metrics)
            if self.is_train:
                self._initialize_best_metric_results(name)
                for metric, value in self.metric_results.items():
                    self._update_best_metric_result(name, metric, value, current_iter)
                self.checkpointing.save_best(name, current_iter)
            self._log_validation_metric_values(current_iter, name, tb_logger)
        self.validator.show(results, name, current_iter, tb_logger)
        if not self.is_train or self.checkpointing.has_ended:
            self.validator.check_failures(name, tb_logger)
        if self.is_train and self.device.type == 'cpu':
            give_back_freed_memory()  # whole images take more than training will
        return results

    def _make_up_validation(self, section: dict[str, Any]) -> None:
        """Validate after the iteration that was resumed, which the interrupted run did not."""
        name, save_img = section['name'], self.val_options.save_img
        with self.checkpointing.between_iterations() as iteration:
            get_root_logger().info(
                f'The validation with {name} after iteration {iteration:,} was interrupted and is '
                'made up for.'
            )
            results = self._validate(build_dataset(section), iteration, None, save_img)
        self.validator.not_yet_shown.append((results, self.metric_results, name, iteration))

    def _evaluate(
        self, data: dict[str, Any], file: str | None
    ) -> tuple[dict[str, float], list[Tensor]]:
        self.feed_data(data)
        self.test()
        images = [self.lq, self.output, *([self.gt] if 'gt' in data else [])]
        arrays = [tensor2img([image.cpu()]) for image in images[1:]]
        if file is not None:
            self.validator.write(file, arrays[0])
        pair = dict(zip(('img', 'img2'), arrays, strict=False))
        values = {key: float(calculate_metric(pair, opt)) for key, opt in self.metrics.items()}
        return values, images

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
            kernels=self.val_options.kernels,
        )
        network.train(was_training)
