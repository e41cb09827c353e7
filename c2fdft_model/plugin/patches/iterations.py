"""BasicSR gives a data set no way to learn the iteration that it loads for."""

from c2fdft_model.plugin.patches.patch import patch, replaces


@patch(fault='a dataset cannot know the iteration it is asked for', upstream='none')
def announce_iterations() -> bool:
    """Tell `c2fdft_model.data.training_clock.training_clock` of every start, iteration and resume.

    Wraps three methods of BaseModel: every model of BasicSR goes through them, and they know the
    iteration before the batch is fetched.
    """
    from basicsr.models.base_model import BaseModel

    from c2fdft_model.data.training_clock import training_clock

    @replaces(BaseModel, '__init__')
    def announced_init(initialise, self, opt):
        initialise(self, opt)
        if self.is_train:
            training_clock.start(opt)

    @replaces(BaseModel, 'update_learning_rate')
    def announced_update(update_learning_rate, self, current_iter, warmup_iter=-1):
        training_clock.iteration(current_iter)
        update_learning_rate(self, current_iter, warmup_iter=warmup_iter)

    @replaces(BaseModel, 'resume_training')
    def announced_resume(resume_training, self, resume_state):
        training_clock.resumed(resume_state['iter'], resume_state['epoch'])
        resume_training(self, resume_state)

    return True
