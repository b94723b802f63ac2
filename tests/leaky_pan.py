"""A pan with a mistake that `Pan` avoids. Tests of single frames use it to show that they would detect the mistake."""

import numpy

from sideways.data.pan import Pan


class Leaky(Pan):
    """A pan that starts at whole pixels: at half a pixel per frame, blur tells horizontal motion from vertical."""

    def draw_crop(self, split, generator, video=None):
        video, first, corner = super().draw_crop(split, generator, video)
        return video, first, numpy.floor(corner)

    def crop(self, video, first, corners):
        moving = numpy.ptp(corners, axis=0) > 1e-9
        corners = numpy.where(moving, corners, numpy.floor(corners))
        return super().crop(video, first, numpy.maximum(corners, 0))  # whole pixels may lie left of the margin
