"""BasicSR gives a data set no way to learn the iteration that it loads for."""

import functools

from c2fdft_model.plugin.patches.patch import patch


@patch(fault='a dataset cannot know the iteration it is asked for', upstream='none')
def announce_iterations() -> bool:
    """Tell `c2fdft_model.data.training_clock.training_clock` of every start, iteration and resume.

    Wraps three methods of BaseModel: every model of BasicSR goes through them, and they know the
    iteration before the batch is fetched.
    """
    from basicsr.models.base_model import BaseModel

    from c2fdft_model.data.training_clock import training_clock

    initialise = BaseModel.__init__
    update_learning_rate = BaseModel.update_learning_rate
    resume_training = BaseModel.resume_training

    @functools.wraps(initialise)
    def announced_init(self, opt):
        initialise(self, opt)
        if self.is_train:
            training_clock.start(opt)

    @functools.wraps(update_learning_rate)
    def announced_update(self, current_iter, warmup_iter=-1):
        training_clock.iteration(current_iter)
        update_learning_rate(self, current_iter, warmup_iter=warmup_iter)

    @functools.wraps(resume_training)
    def announced_resume(self, resume_state):
        training_clock.resumed(resume_state['iter'], resume_state['epoch'])
        resume_training(self, resume_state)

    BaseModel.__init__ = announced_init
    BaseModel.update_learning_rate = announced_update
    BaseModel.resume_training = announced_resume
    return True
