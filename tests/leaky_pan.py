"""A pan with the mistake that `Pan` avoids, so that tests of single frames can show that they would see it."""

import numpy

from sideways.data.pan import Pan


class Leaky(Pan):
    """A pan that starts at whole pixels: at half a pixel a frame, blur tells level motion from upright."""

    def place(self, split, generator, video=None):
        video, first, corner = super().place(split, generator, video)
        return video, first, numpy.floor(corner)

    def crop(self, video, first, corners):
        moving = numpy.ptp(corners, axis=0) > 1e-9
        return super().crop(video, first, numpy.where(moving, corners, numpy.floor(corners)))
