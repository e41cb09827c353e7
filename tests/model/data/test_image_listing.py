"""Which files a folder of images holds."""

from __future__ import annotations

import os

import pytest

from c2fdft_model.data.image_listing import ListingError, find_file, list_images


def test_images_are_found_at_any_depth(tmp_path):
    for name in ('b.png', 'a/deep/c.JPG', 'a/b.v2.tif', 'x.bmp'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'notes.txt').touch()
    (tmp_path / '.hidden.png').touch()
    listing = list_images(tmp_path)
    assert listing.images == ['a/b.v2.tif', 'a/deep/c.JPG', 'b.png', 'x.bmp']
    assert listing.others == ['notes.txt']


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(ListingError, match='nowhere: there is no such folder'):
        list_images(tmp_path / 'nowhere')


def test_empty_folder_is_named(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ListingError, match='empty has no images'):
        list_images(tmp_path / 'empty')


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_what_other_systems_put_beside_images_is_no_image(tmp_path):
    write(tmp_path, 'a.png', '._a.png', '__MACOSX/a.png', '@eaDir/a.png', '.cache/a.png')
    assert list_images(tmp_path).images == ['a.png']


def test_links_between_folders_end(tmp_path):
    write(tmp_path, 'a/1.png', 'b/2.png')
    for folder, other in (('a', 'b'), ('b', 'a'), ('b', '.')):
        (tmp_path / folder / f'to_{other}').symlink_to(tmp_path / other, target_is_directory=True)
    assert list_images(tmp_path).images == ['a/1.png', 'b/2.png']


def test_links_to_folders_elsewhere_are_followed(tmp_path):
    write(tmp_path, 'elsewhere/1.png', 'here/2.png')
    (tmp_path / 'here/link').symlink_to(tmp_path / 'elsewhere', target_is_directory=True)
    assert list_images(tmp_path / 'here').images == ['2.png', 'link/1.png']


def test_a_link_that_leads_to_itself_is_listed_to_be_named_when_it_is_read(tmp_path):
    (tmp_path / 'x.png').symlink_to('x.png')
    assert list_images(tmp_path).images == ['x.png']


def test_folders_can_be_left_out(tmp_path):
    write(tmp_path, '1.png', 'results/1.png')
    assert list_images(tmp_path, without=[tmp_path / 'results', tmp_path / 'none']).images == [
        '1.png'
    ]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path, '1.png', 'locked/2.png')
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'locked':
            raise PermissionError(13, 'Permission denied', str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(ListingError, match='locked cannot be read: Permission denied'):
        list_images(tmp_path)
    told = []
    assert list_images(tmp_path, on_error=told.append).images == ['1.png']
    assert len(told) == 1


def test_a_file_is_found_by_name_the_highest_first(tmp_path):
    write(tmp_path, 'a/info.mat', 'a/b/info.mat', '._info.mat')
    assert find_file(tmp_path, 'other.mat', 'info.mat') == tmp_path / 'a/info.mat'
    assert find_file(tmp_path / 'a/info.mat', 'other.mat') == tmp_path / 'a/info.mat'
    with pytest.raises(FileNotFoundError, match=r'there is no x\.mat and no y\.mat in it or below'):
        find_file(tmp_path, 'x.mat', 'y.mat')
