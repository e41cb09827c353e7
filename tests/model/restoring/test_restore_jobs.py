from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from c2fdft_model.data.image_listing import ListingError
from c2fdft_model.restoring.restore_jobs import JobError, find_jobs


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('photos/b.jpg', 'photos/a.PNG', 'photos/trip/c.tif', 'photos/notes.txt'):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
    return tmp_path


def found(*arguments, **options):
    return [(str(job.source), str(job.target)) for job in find_jobs(*arguments, **options)]


def test_a_file_becomes_a_file(photos):
    assert found(['photos/b.jpg'], 'out/new.png') == [('photos/b.jpg', 'out/new.png')]


def test_a_file_goes_into_a_folder(photos):
    assert found(['photos/b.jpg'], 'out') == [('photos/b.jpg', 'out/b.jpg')]


def test_a_folder_is_repeated_with_its_subfolders(photos):
    assert found(['photos'], 'out') == [
        ('photos/a.PNG', 'out/a.PNG'),
        ('photos/b.jpg', 'out/b.jpg'),
        ('photos/trip/c.tif', 'out/trip/c.tif'),
    ]


def test_a_pattern_keeps_what_lies_below_its_fixed_part(photos):
    assert found(['photos/**/*.tif'], 'out') == [('photos/trip/c.tif', 'out/trip/c.tif')]


def test_files_expanded_by_the_shell_are_taken(photos):
    assert [t for _, t in found(['photos/a.PNG', 'photos/b.jpg'], 'out')] == [
        'out/a.PNG',
        'out/b.jpg',
    ]


def test_a_file_given_twice_is_restored_once(photos):
    assert len(found(['photos/a.PNG', 'photos/a.PNG'], 'out')) == 1


def test_the_ending_can_be_replaced(photos):
    assert found(['photos/trip'], 'out', suffix='.png') == [('photos/trip/c.tif', 'out/c.png')]


def test_earlier_results_below_the_input_are_no_inputs(photos):
    Path('photos/restored').mkdir()
    Path('photos/restored/b.jpg').write_bytes(b'x')
    assert 'photos/restored/b.jpg' not in dict(found(['photos'], 'photos/restored'))


def test_unfinished_files_are_no_inputs(photos):
    Path('photos/.b.jpg').write_bytes(b'x')
    assert 'photos/.b.jpg' not in dict(found(['photos'], 'out'))


def test_comparisons_lie_in_a_folder_of_their_own(photos):
    jobs = find_jobs(['photos'], 'out')
    assert [str(job.comparison) for job in jobs] == [
        'out/compare/a.png',
        'out/compare/b.png',
        'out/compare/trip/c.png',
    ]
    (job,) = find_jobs(['photos/b.jpg'], 'out/new.png')
    assert str(job.comparison) == 'out/compare/new.png'


def test_comparisons_of_one_name_keep_their_endings(photos):
    Path('photos/b.png').write_bytes(b'x')
    jobs = find_jobs(['photos'], 'out')
    assert [str(job.comparison) for job in jobs] == [
        'out/compare/a.png',
        'out/compare/b.jpg.png',
        'out/compare/b.png.png',
        'out/compare/trip/c.png',
    ]


def test_comparisons_are_no_results(photos):
    Path('photos/compare').mkdir()
    for name in ('b.png', 'b.jpg.png'):
        Path('photos/compare', name).write_bytes(b'x')
    jobs = find_jobs(['photos'], 'out')
    targets = {job.target for job in jobs}
    comparisons = {job.comparison for job in jobs}
    assert len(comparisons) == len(jobs) and not comparisons & targets


def test_a_renamed_result_is_measured_and_compared_by_the_name_of_its_source(photos):
    (job,) = find_jobs(['photos/b.jpg'], 'results/new.png')
    assert job.relative == Path('b.jpg')
    assert job.comparison == Path('results/compare/new.png')


def test_a_loop_of_links_gives_each_image_once(photos):
    Path('photos/a_loop').symlink_to('.', target_is_directory=True)
    Path('photos/trip/up').symlink_to('..', target_is_directory=True)
    expected = ['photos/a.PNG', 'photos/b.jpg', 'photos/trip/c.tif']
    assert [source for source, _ in found(['photos'], 'out')] == expected
    assert [source for source, _ in found(['photos/**/*.tif'], 'out')] == expected[2:]


def test_linked_folders_are_followed(photos):
    Path('album').mkdir()
    Path('album/link').symlink_to('../photos/trip', target_is_directory=True)
    assert found(['album'], 'out') == [('album/link/c.tif', 'out/link/c.tif')]


@pytest.fixture
def locked(photos, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == 'trip':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)


def test_a_subfolder_that_cannot_be_read_is_reported(locked):
    told = []
    jobs = find_jobs(['photos'], 'out', on_error=told.append)
    assert [str(job.source) for job in jobs] == ['photos/a.PNG', 'photos/b.jpg']
    assert [error.filename for error in told] == ['photos/trip']


def test_an_ending_that_is_not_written_is_refused_with_those_that_are(photos):
    with pytest.raises(JobError, match=r'z9\.bmp ends in \.bmp; written are \.png .*give z9\.bmp/'):
        find_jobs(['photos/b.jpg'], 'z9.bmp')


@pytest.mark.parametrize('folder', ['z9.bmp/', 'run1.5', 'there.raw'])
def test_a_folder_may_have_a_dot_in_its_name(photos, folder):
    Path('there.raw').mkdir()
    assert found(['photos/b.jpg'], folder) == [('photos/b.jpg', str(Path(folder, 'b.jpg')))]


def test_a_format_that_contradicts_the_name_is_refused(photos):
    with pytest.raises(JobError, match=r'--format png contradicts new\.jpg'):
        find_jobs(['photos/b.jpg'], 'new.jpg', suffix='.png')
    assert found(['photos/b.jpg'], 'new.jpeg', suffix='.jpg') == [('photos/b.jpg', 'new.jpeg')]


def test_the_noise_is_seeded_by_the_name_without_the_ending(photos):
    assert [job.name for job in find_jobs(['photos/trip'], 'out')] == ['c']


@pytest.mark.parametrize(
    ('inputs', 'output', 'complaint'),
    [
        (['missing'], 'out', 'missing: no such file'),
        (['photos/*.gif'], 'out', 'no file matches'),
        (['photos'], 'photos', 'is an input, too'),
        (['photos/b.jpg'], 'photos/b.jpg', 'is an input, too'),
        (['photos/b.jpg'], 'photos/../photos', 'is an input, too'),
        (['photos'], 'out.png', 'named like one image'),
        (['photos'], 'photos/notes.txt', 'is a file'),
        (['photos/trip', 'photos/trip/c.tif'], 'out/c.tif', 'named like one image'),
    ],
)
def test_inputs_and_output_that_do_not_fit_are_refused(photos, inputs, output, complaint):
    with pytest.raises(JobError, match=complaint) as caught:
        find_jobs(inputs, output)
    assert '\n' not in str(caught.value)


def test_an_output_that_links_to_the_input_is_refused(photos):
    Path('link').symlink_to('photos')
    with pytest.raises(JobError, match='is an input, too'):
        find_jobs(['photos'], 'link')


def test_two_inputs_must_not_become_one_result(photos):
    Path('photos/b.png').write_bytes(b'x')
    with pytest.raises(JobError, match=r'photos/b\.jpg and photos/b\.png would both become'):
        find_jobs(['photos'], 'out', suffix='.png')


def test_a_folder_without_images_is_refused(photos):
    Path('empty').mkdir()
    with pytest.raises(ListingError, match='empty has no images'):
        find_jobs(['empty'], 'out')


def test_a_link_that_leads_to_itself_is_a_job_that_will_fail_alone(photos):
    Path('photos/x.png').symlink_to('x.png')
    assert ('photos/x.png', 'out/x.png') in found(['photos'], 'out')


def test_the_noise_of_a_name_does_not_depend_on_how_its_accents_are_written(photos):
    for form in ('NFC', 'NFD'):
        Path('photos', unicodedata.normalize(form, 'é.png')).touch()
    names = {job.name for job in find_jobs(['photos'], 'out')}
    assert unicodedata.normalize('NFC', 'é') in names
    assert len(names) == 4  # a, b, c and é
